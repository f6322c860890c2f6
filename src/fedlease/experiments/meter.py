"""Watching a run: what it costs, for the record, and what happens, for people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from fedlease.core.progress import Progress
from fedlease.core.protocols import ClientId
from fedlease.experiments.prepare import Federation
from fedlease.experiments.spec import Spec
from fedlease.experiments.work import kind_of


class Listener(Protocol):
    """Whoever wants to know how a run goes on."""

    def step(self, step: Progress) -> None:
        """A client did a batch."""

    def round(self, entry: dict[str, Any]) -> None:
        """A round is done and written; ``entry`` is what the record tells of it."""


class Observer(Listener, Protocol):
    """Whoever shows a run to people."""

    def begin(self, spec: Spec, federation: Federation, done: int) -> None:
        """The run starts, or goes on after ``done`` rounds."""

    def end(self, seconds: float) -> None:
        """The run is complete."""


@runtime_checkable
class Noting(Protocol):
    """An observer that shows a line about what is done before the run begins."""

    def note(self, text: str) -> None:
        """Show it."""


def note_of(observer: object) -> Callable[[str], None]:
    """Return where an observer shows such lines: nowhere, where it does not."""
    return observer.note if isinstance(observer, Noting) else lambda _: None


@dataclass
class Measured:
    """What the sites did in one round.

    Attributes:
        loss: mean training loss of every client that trained.
        rows: rows trained on, and rows scored.
        train_seconds, score_seconds: spent computing; all else of a round is overhead.
        write_seconds: spent on the checkpoint and record of the round before.
        reused_seconds: that an earlier run spent on training which this one read.
    """

    loss: dict[ClientId, float] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=lambda: {"train": 0, "score": 0})
    train_seconds: float = 0.0
    score_seconds: float = 0.0
    write_seconds: float = 0.0
    reused_seconds: float = 0.0


class Meter:
    """Adds up what sites report, and passes it on to an observer and to others who listen."""

    def __init__(self, observer: Observer | None) -> None:
        self._observer = observer
        self._listeners: list[Listener] = [] if observer is None else [observer]
        self._measured = Measured()

    def also(self, *listeners: Listener) -> None:
        """Tell these of every batch and round, too."""
        self._listeners += listeners

    def begin(self, spec: Spec, federation: Federation, done: int) -> None:
        """See `Observer`."""
        if self._observer:
            self._observer.begin(spec, federation, done)

    def step(self, step: Progress) -> None:
        """Take note of a batch."""
        if kind_of(step.purpose) != "train":
            self._measured.rows["score"] += step.rows
            self._measured.score_seconds += step.seconds
        else:
            self._measured.rows["train"] += step.rows
            self._measured.train_seconds += step.seconds
            self._measured.reused_seconds += step.reused
            if step.loss is not None:
                self._measured.loss[step.client] = step.loss
        for listener in self._listeners:
            listener.step(step)

    def take(self) -> Measured:
        """Return what was noted since the last call."""
        taken, self._measured = self._measured, Measured()
        return taken

    def round(self, entry: dict[str, Any], written: float) -> None:
        """See `Listener`; ``written`` seconds went to the round's checkpoint and record."""
        self._measured.write_seconds += written
        for listener in self._listeners:
            listener.round(entry)

    def end(self, seconds: float) -> None:
        """See `Observer`."""
        if self._observer:
            self._observer.end(seconds)
