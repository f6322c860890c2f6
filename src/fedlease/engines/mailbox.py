"""Questions to nodes of a Flower Grid and their answers, until all came or the time is up."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from flwr.app import Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from fedlease.core.protocols import ClientId
from fedlease.engines.pulls import Pulls

log = logging.getLogger(__name__)

AWAY = (ErrorCode.NODE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE)
"""Errors that say nothing of the question: the node that was asked is gone, and may come back."""

CRASHES = 2
"""How often a client's process may die over one question."""


@dataclass(frozen=True)
class Address:
    """Where a client is to be found now: a node, and since when it is there."""

    node: int
    since: str = ""


class Clock(Protocol):
    """What waiting needs of the time; tests have one of their own."""

    def monotonic(self) -> float:
        """Seconds since some moment."""

    def sleep(self, seconds: float, /) -> None:
        """Let time pass."""


Arrived = Callable[[ClientId, RecordDict], RecordDict | None]
"""Who is told of an answer as soon as it is there; what it raises ends the asking.

What it returns is another question, which is put to the client in the place of the first; None ends it.
"""


def unheard(client: ClientId, records: RecordDict) -> None:
    """Tell nobody."""


@dataclass
class Answers:
    """What came of a question: the records of those who answered, and why the others did not."""

    records: dict[ClientId, RecordDict] = field(default_factory=dict)
    failed: dict[ClientId, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Mailbox:
    """Sends to nodes and collects replies, each known by the message it replies to.

    Flower's own ``send_and_receive`` sleeps three seconds between two looks.

    Attributes:
        grid: of the run.
        every: seconds between two looks.
        clock: the time.
        patience: seconds that one look is waited for, see `Pulls`.
    """

    grid: Grid
    every: float = 0.5
    clock: Clock = time
    patience: float | None = 1.0

    def ask(
        self,
        questions: Mapping[ClientId, RecordDict],
        where: Callable[[], Mapping[ClientId, Address]],
        kind: str,
        group: str,
        deadline: float,
        arrived: Arrived = unheard,
    ) -> Answers:
        """Ask each client once, and again only where its node went away and came back, maybe as another.

        Args:
            questions: what to send to whom.
            where: asked again and again for where clients are now.
            kind: Flower's message type.
            group: shown in Flower's logs, e.g. the round.
            deadline: seconds to wait in all.
            arrived: told of each answer as it comes.
        """
        asked = Asked(self, dict(questions), kind, group, arrived)
        end = self.clock.monotonic() + deadline
        while asked.waiting() and (left := end - self.clock.monotonic()) > 0:
            asked.send(where(), left)
            asked.receive()
            if asked.waiting():
                self.clock.sleep(min(self.every, left))
        return asked.close(deadline)


@dataclass
class Asked:
    """One question to several clients, while it is open.

    Attributes:
        mail: to ask by.
        questions: what to send to whom; more may be added, see also `forget`.
        kind, group, arrived: see `Mailbox.ask`.
        answers: what came so far.
        sent: message -> client, of messages whose reply may still come.
        latest: the last message to each client, and where it went.
        gone: whose node went away and is not back.
        deaths: how often a client's process died.
    """

    mail: Mailbox
    questions: dict[ClientId, RecordDict]
    kind: str
    group: str = ""
    arrived: Arrived = unheard
    answers: Answers = field(default_factory=Answers)
    sent: dict[str, ClientId] = field(default_factory=dict)
    latest: dict[ClientId, tuple[str, Address]] = field(default_factory=dict)
    gone: set[ClientId] = field(default_factory=set)
    deaths: dict[ClientId, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._pulls = Pulls(self.mail.grid, self.mail.patience)

    def waiting(self) -> list[ClientId]:
        """Whose answer is still open, sorted."""
        done = {*self.answers.records, *self.answers.failed}
        return [client for client in sorted(self.questions) if client not in done]

    def forget(self, client: ClientId) -> None:
        """Be done with a client, whatever still comes of it."""
        self.again(client)
        self.questions.pop(client, None)
        self.answers.records.pop(client, None)
        self.answers.failed.pop(client, None)
        self.deaths.pop(client, None)
        self.sent = {number: of for number, of in self.sent.items() if of != client}

    def again(self, client: ClientId) -> None:
        """Ask a silent client once more with the next `send`; an answer to what it was sent counts, too."""
        self.latest.pop(client, None)
        self.gone.discard(client)

    def send(self, places: Mapping[ClientId, Address], ttl: float) -> None:
        """Ask who can be reached and was not asked there; a message lives no longer than it is awaited."""
        due = [
            (client, places[client])
            for client in self.waiting()
            if client in places and (client not in self.latest or self.latest[client][1] != places[client])
        ]
        if not due:
            return
        messages = [
            Message(self.questions[client], place.node, self.kind, ttl=ttl, group_id=self.group)
            for client, place in due
        ]
        for number, (client, place) in zip(self.mail.grid.push_messages(messages), due, strict=False):
            if number:  # None where Flower did not take it: it is tried again
                self.sent[number] = client
                self.latest[client] = number, place
                self.gone.discard(client)

    def receive(self) -> None:
        """Take the replies that are there."""
        taken: dict[str, ClientId] = {}
        for number, reply in self._pulls.take(self.sent):
            client = self.sent.get(number) or taken.get(number)
            if client is None:
                log.warning("a reply that nobody waits for is dropped")
            elif self._take(client, number, reply):
                self.sent.pop(number, None)
                taken[number] = client

    def _take(self, client: ClientId, number: str, reply: Message | None) -> bool:
        """Sort one reply in; tell whether it is the last to its message."""
        newest, place = self.latest.get(client, ("", Address(0)))
        if client not in self.waiting():
            log.warning("client %s answered twice: its first answer counts", client)
        elif reply is None or reply.has_error():
            if number == newest:
                self._failed(client, None if reply is None else reply.error.code)
        elif number == newest and reply.metadata.src_node_id != place.node:
            log.warning("a reply for client %s from another node is dropped", client)
            return False
        else:
            instead = self.arrived(client, reply.content)
            if instead is None:
                self.answers.records[client] = reply.content
            else:
                self.questions[client] = instead
                self.again(client)
        return True

    def _failed(self, client: ClientId, code: int | None) -> None:
        if code is None:
            self.answers.failed[client] = "sent what Flower cannot read"
        elif code in AWAY:
            del self.latest[client]  # a node that was away for a moment may be there under the same address
            self.gone.add(client)
            log.warning("client %s went away: it is asked again when it is back", client)
        elif code == ErrorCode.MESSAGE_UNAVAILABLE:
            del self.latest[client]
            log.warning("of client %s came a part of an answer and no more: it is asked again", client)
        elif code == ErrorCode.CLIENT_APP_CRASHED and self.deaths.get(client, 0) + 1 < CRASHES:
            self.deaths[client] = self.deaths.get(client, 0) + 1
            del self.latest[client]
            log.warning("the process of client %s died: it is asked again", client)
        elif code == ErrorCode.CLIENT_APP_CRASHED:
            self.answers.failed[client] = f"failed: its process died {CRASHES} times"
        else:
            self.answers.failed[client] = f"failed with Flower's error {code}; its own log says why"

    def close(self, deadline: float) -> Answers:
        """Say of those who are still silent why nothing came."""
        for client in self.waiting():
            if client in self.gone:
                reason = "went away and did not come back in time"
            else:
                reached = client in self.latest or client in self.deaths
                reason = f"did not answer in {deadline:g} s" if reached else "cannot be reached"
            self.answers.failed[client] = reason
        return self.answers
