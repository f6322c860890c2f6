"""Toy sites behind nodes of a fake Grid, with a real memory on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import Error, Message
from grid import Clock, FakeGrid, Node, mail
from toy import MODULES, ToySite

from fedlease.algorithms.registry import build
from fedlease.core.adapter import Modules
from fedlease.core.held import LackingError
from fedlease.core.protocols import Message as Ours
from fedlease.core.rounding import WireForm
from fedlease.core.weights import Weights
from fedlease.deploy.memory import Memories, Memory
from fedlease.deploy.worker import reason
from fedlease.engines.exchange import SCORE, do_task
from fedlease.engines.flower import Flower, Terms
from fedlease.engines.flower_messages import from_records, to_records
from fedlease.engines.flower_records import LACKS, failure
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
    wire: WireForm = "float32"

    def memories(self) -> Memories:
        """What it keeps lies in a folder of its name, what it holds in one beside it."""
        return Memories(Memory(self.folder / self.name), Memory(self.folder / f"{self.name}-held"))

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
        memories, task = self.memories(), str(beside["task"])
        kept = memories.kept.load(str(beside["kept"]))
        try:
            came, held = memories.arrived(down, str(beside["kept"]), self.wire)
        except LackingError:
            return to_records(Ours(), {LACKS: 1})
        site = ToySite(TARGETS[self.name])
        up, keeps = do_task(build(self.method, rank=2), task, came, kept, site, self.wire)
        if task != SCORE:
            memories.remember(beside, keeps, held)
        memories.forget(beside)
        return to_records(up, {"rows": 4, "seconds": 0.5, "loss": 0.25})


@dataclass
class Toys:
    """A federation of toy nodes: node numbers from 10, in order of their names."""

    method: str
    folder: Path
    terms: Terms = field(default_factory=lambda: Terms(60.0, 0.5, 0.5))
    clock: Clock = field(default_factory=Clock)
    grid: FakeGrid = field(default_factory=FakeGrid)
    patience: float | None = None
    sites: dict[str, ToyNode] = field(default_factory=dict)
    wire: WireForm = "float32"
    modules: Modules = field(default_factory=lambda: MODULES)

    def __post_init__(self) -> None:
        for number, name in enumerate(TARGETS, 10):
            self.sites[name] = ToyNode(name, self.method, self.folder, wire=self.wire)
            self.grid.nodes[number] = Node(self.sites[name])

    def engine(
        self,
        session: int = 1,
        kept: Mapping[str, Weights] | None = None,
        holds: Mapping[str, Weights] | None = None,
    ) -> Flower:
        algorithm = build(self.method, rank=2)
        roster = Roster(mail(self.grid, self.clock, self.patience), tuple(TARGETS), {"run": "toy"}, 30.0)
        uploads = Uploads.of(algorithm, self.modules, 100.0)
        known = dict(kept or {}), dict(holds or {})
        return Flower(algorithm, roster, uploads, self.terms, {}, session, *known, self.wire)


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


def claiming(**facts: Any) -> Fault:
    """Say something else than what is so."""

    def fault(question: Message, answer: Message) -> list[Message]:
        message, beside = from_records(answer.content)
        other = Ours(message.weights, {**message.facts, **facts})
        return [Message(to_records(other, beside), reply_to=question)]

    return fault


def damaged(question: Message, answer: Message) -> list[Message]:
    """Cut the last byte off."""
    array = answer.content.array_records["weights"]["all"]
    array.data = array.data[:-1]
    return [answer]


def lacking(question: Message, answer: Message) -> list[Message]:
    """Say that what the question refers to is not there."""
    return [Message(to_records(Ours(), {LACKS: 1}), reply_to=question)]


def foreign(question: Message, answer: Message) -> list[Message]:
    """Records of somebody else's application."""
    answer.content.config_records.clear()
    answer.content.array_records.clear()
    return [answer]
