"""A Flower Grid without processes: nodes are functions, and time passes only where somebody waits."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from flwr.app import Error, Message
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.task_identity import TaskIdentity

from fedlease.engines.mailbox import Mailbox

TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1

Handler = Callable[[Message], list[Message]]
"""What a node does with a message: the replies that come of it, none if it stays silent."""


@dataclass
class Clock:
    """A clock that moves when somebody sleeps; ``then`` happens at given times."""

    now: float = 0.0
    then: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        self.now += seconds
        due = [do for at, do in self.then if at <= self.now]
        self.then = [(at, do) for at, do in self.then if at > self.now]
        for do in due:
            do()


@dataclass
class Node:
    """A node: its handler, the name its key is registered under, and since when it is there."""

    handler: Handler
    name: str = ""
    since: str = "1"


@dataclass
class FakeGrid:
    """Delivers a message when its reply is first looked for, and forgets it then, as Flower does."""

    nodes: dict[int, Node] = field(default_factory=dict)
    waiting: dict[str, Message] = field(default_factory=dict)
    pushed: dict[str, Message] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    delivered: list[Message] = field(default_factory=list)
    numbers: Any = field(default_factory=itertools.count)

    def get_nodes(self) -> list[NodeInfo]:
        return [
            NodeInfo(node_id=number, name=node.name, last_activated_at=node.since)
            for number, node in self.nodes.items()
        ]

    def get_node_ids(self) -> list[int]:
        return list(self.nodes)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids = []
        for message in messages:
            number = f"message-{next(self.numbers)}"
            message.metadata.__dict__["_message_id"] = number
            self.waiting[number] = self.pushed[number] = message
            ids.append(number)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        replies = []
        for number in list(message_ids):
            message = self.waiting.pop(number, None)
            if message is None:
                if number in self.answered:
                    replies.append(unknown(self.pushed[number]))
            elif message.metadata.dst_node_id in self.nodes:
                self.answered.add(number)  # while the reply is on its way, and for ever
                self.delivered.append(message)
                came = self.nodes[message.metadata.dst_node_id].handler(message)
                replies += came
                if not came:
                    self.answered.discard(number)
            else:
                self.waiting[number] = message
        return replies


def unknown(question: Message) -> Message:
    """What Flower gives whoever asks for a reply that it has begun to hand over, or that was lost."""
    return Message(Error(ErrorCode.MESSAGE_UNAVAILABLE, "objects are unavailable"), reply_to=question)


def mail(grid: FakeGrid, clock: Clock, patience: float | None = None) -> Mailbox:
    """Looks once a second. A look is waited for: what a node does, a training maybe, it does in it."""
    return Mailbox(grid, 1.0, clock, patience)  # type: ignore[arg-type]
