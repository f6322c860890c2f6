"""Toy sites behind nodes of a fake Grid, with a real memory on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import Error, Message
from grid import Clock, FakeGrid, Node
from toy import MODULES, ToySite

from fedlease.algorithms.registry import build
from fedlease.core.protocols import Message as Ours
from fedlease.core.weights import Weights
from fedlease.deploy.memory import Memory
from fedlease.deploy.worker import reason
from fedlease.engines.exchange import SCORE, run_task
from fedlease.engines.flower import Flower, Terms
from fedlease.engines.flower_messages import from_records, to_records
from fedlease.engines.flower_records import failure
from fedlease.engines.mailbox import Mailbox
from fedlease.engines.roster import HELLO, Roster
from fedlease.engines.uploads import Uploads

Fault = Callable[[Message, Message], list[Message]]
"""What becomes of (question, answer) on the way: the replies that arrive."""

TARGETS = {"a": 0.1, "b": 0.2, "c": 2.0, "d": 2.1}


@dataclass
class ToyNode:
    """A site of one number; ``faults`` says what becomes of its answer to the n-th task, counted from 1."""

    name: str
    method: str
    folder: Path
    faults: dict[int, Fault] = field(default_factory=dict)
    asked: int = 0

    def __call__(self, message: Message) -> list[Message]:
        down, beside = from_records(message.content)
        if message.metadata.message_type == HELLO:
            return [Message(to_records(Ours({}, {"client": self.name})), reply_to=message)]
        self.asked += 1
        try:
            answer = Message(self._work(down, beside), reply_to=message)
        except Exception as error:
            answer = Message(failure(reason(error)), reply_to=message)
        fault = self.faults.get(self.asked)
        return fault(message, answer) if fault else [answer]

    def _work(self, down: Ours, beside: Mapping[str, Any]) -> Any:
        memory, task = Memory(self.folder / self.name), str(beside["task"])
        kept = memory.load(str(beside["kept"]))
        up, keeps = run_task(build(self.method, rank=2), task, down, kept, ToySite(TARGETS[self.name]))
        if task != SCORE:
            memory.save(str(beside["next"]), keeps)
        memory.forget({str(beside[key]) for key in ("kept", "safe", "next")})
        return to_records(up, {"rows": 4, "seconds": 0.5, "loss": 0.25})


@dataclass
class Toys:
    """A federation of toy nodes: node numbers from 10, in order of their names."""

    method: str
    folder: Path
    terms: Terms = field(default_factory=lambda: Terms(60.0, 0.5, 0.5))
    clock: Clock = field(default_factory=Clock)
    grid: FakeGrid = field(default_factory=FakeGrid)
    sites: dict[str, ToyNode] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, name in enumerate(TARGETS, 10):
            self.sites[name] = ToyNode(name, self.method, self.folder)
            self.grid.nodes[number] = Node(self.sites[name])

    def engine(self, session: int = 1, kept: Mapping[str, Weights] | None = None) -> Flower:
        algorithm = build(self.method, rank=2)
        mail = Mailbox(self.grid, 1.0, self.clock)  # type: ignore[arg-type]
        roster = Roster(mail, tuple(TARGETS), {"run": "toy"}, 30.0)
        uploads = Uploads.of(algorithm, MODULES, 100.0)
        return Flower(algorithm, roster, uploads, self.terms, {}, session, dict(kept or {}))


def silent(question: Message, answer: Message) -> list[Message]:
    return []


def twice(question: Message, answer: Message) -> list[Message]:
    return [answer, answer]


def crashed(question: Message, answer: Message) -> list[Message]:
    return [Message(Error(8, "ClientApp stopped responding."), reply_to=question)]


def raised(question: Message, answer: Message) -> list[Message]:
    return [Message(Error(2, "<class 'ValueError'>: a secret row"), reply_to=question)]


def altered(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Fault:
    """Send other weights than those trained."""

    def fault(question: Message, answer: Message) -> list[Message]:
        message, beside = from_records(answer.content)
        other = Ours(change(dict(message.weights)), message.facts)
        return [Message(to_records(other, beside), reply_to=question)]

    return fault


def damaged(question: Message, answer: Message) -> list[Message]:
    """Cut the last byte off."""
    array = answer.content.array_records["weights"]["all"]
    array.data = array.data[:-1]
    return [answer]


def foreign(question: Message, answer: Message) -> list[Message]:
    """Records of somebody else's application."""
    answer.content.config_records.clear()
    answer.content.array_records.clear()
    return [answer]
