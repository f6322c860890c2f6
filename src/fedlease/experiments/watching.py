"""A run of another process as it looks now, from what it writes on disk."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from fedlease.core.files import read_json
from fedlease.experiments import heartbeat
from fedlease.experiments.heartbeat import Beat
from fedlease.experiments.jobs import DIVERGED
from fedlease.experiments.lock import is_locked
from fedlease.experiments.spec import make_spec
from fedlease.experiments.store import Store
from fedlease.experiments.work import work

State = Literal["running", "complete", "stopped"]

RETRY = 0.2
"""Seconds before a run that seems to have no process is looked at again: it may just have begun or ended."""


@dataclass(frozen=True)
class Seen:
    """A run at one moment.

    Attributes:
        folder: of the run.
        record: its record; before the first round what the spec tells, with no rounds.
        beat: what its process told last; None of a run that is complete.
        state: ``"stopped"`` is a run that is not complete and at which no process is.
        work: rows to train in all rounds, and rows to score at their price; see `work.Work.size`.
    """

    folder: Path
    record: Mapping[str, Any]
    beat: Beat | None
    state: State
    work: float

    @property
    def rounds(self) -> int:
        """How many there are to be."""
        return int(self.record["spec"]["rounds"])

    @property
    def done(self) -> int:
        """How many are done."""
        return len(self.record["rounds"])

    @property
    def round(self) -> int:
        """The one that goes on, or the last."""
        return min(self.done + 1, self.rounds)

    @property
    def now(self) -> Beat | None:
        """What is told of the round that goes on; None where none does, or only the last one is told."""
        going = self.state == "running" and self.beat is not None and self.beat.round == self.round
        return self.beat if going else None

    @property
    def share(self) -> float:
        """How much of the work is done, from 0 to 1."""
        if self.state == "complete":
            return 1.0
        whole = self.done / self.rounds
        beat = self.now
        if beat is None or not self.work:
            return whole
        found = beat.from_round / self.rounds + beat.done / self.work
        return min(max(found, whole), self.round / self.rounds)

    @property
    def left(self) -> float | None:
        """Seconds to go at the pace of this process so far; None where it has none yet."""
        beat = self.beat
        if self.state != "running" or beat is None:
            return None
        done = self.share - beat.from_round / self.rounds
        return beat.seconds * (1 - self.share) / done if done > 0 and beat.seconds > 0 else None

    @property
    def speed(self) -> float | None:
        """Rows trained per second of training; None before any."""
        trained = {} if self.beat is None else self.beat.trained
        return trained["rows"] / trained["seconds"] if trained.get("seconds") else None

    @property
    def silent(self) -> float:
        """Seconds since the process told anything."""
        return 0.0 if self.beat is None else max(time.time() - self.beat.told, 0.0)

    @property
    def diverged(self) -> str | None:
        """What its training broke off by in a sweep, for good; None where it did not."""
        path = self.folder / DIVERGED
        return str(read_json(path)["error"]) if self.state == "stopped" and path.is_file() else None

    @property
    def why(self) -> str:
        """In words, why a stopped run stopped, and how to go on with it."""
        told = self.diverged or (self.beat.why if self.beat else None) or "no process is at it"
        place = f"{self.folder} stopped after {self.done} of {self.rounds} rounds: {told}"
        if self.record.get("engine") == "flower":
            return f"{place}; the same 'fedlease deploy' goes on"
        return place if self.diverged else f"{place}; 'fedlease resume {self.folder}' goes on"


@dataclass
class Watched:
    """A run's folder, to be looked at again and again; only what changed is read.

    Raises:
        FedLeaseError: it is not the folder of a run, or one of another format.
    """

    folder: Path
    _record: Mapping[str, Any] = field(default_factory=dict)
    _stamp: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        self._record = {"status": "running", "rounds": [], **Store(self.folder).resolved()}

    @cached_property
    def _work(self) -> float:
        """Counted once, and only of a run that goes on: it takes a moment."""
        spec = make_spec(self._record["spec"], str(self.folder / "spec.json"))
        clients = self._record["clients"].items()
        return work(
            spec, {client: (facts["train_rows"], facts["test_rows"]) for client, facts in clients}
        ).size

    def look(self, retry: bool = True) -> Seen:
        """Look at the run as it is now, a second time where no process seems to be at it.

        Raises:
            FedLeaseError: what lies there is damaged, or of another format.
        """
        seen = self._look()
        if retry and seen.state == "stopped" and seen.beat is None:
            time.sleep(RETRY)
            return self._look()
        return seen

    def _look(self) -> Seen:
        state: State = "running" if is_locked(self.folder) else "stopped"  # before what it may write since
        beat = heartbeat.read(self.folder)
        self._read()
        if self._record["status"] == "complete":
            state, beat = "complete", None
        size = self._work if state == "running" else 0.0
        return Seen(self.folder, self._record, beat, state, size)

    def _read(self) -> None:
        path = self.folder / "record.json"
        if not path.is_file():
            return
        found = path.stat()
        if (found.st_mtime_ns, found.st_ino) != self._stamp:
            self._record, self._stamp = Store(self.folder).record(), (found.st_mtime_ns, found.st_ino)
