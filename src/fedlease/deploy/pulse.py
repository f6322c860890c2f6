"""A sign that somebody works on a run, in a file that the machines share; and noticing that there is none."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fedlease.core.errors import FedLeaseError
from fedlease.experiments.store import ELSEWHERE

NAME = f"{ELSEWHERE}/pulse"
"""The file in the run's folder; when it was last touched is all it says."""

EVERY = 1.0
"""Seconds between two signs."""

SILENCE = 900.0
"""Seconds without a sign after which nobody is at work: far more than loading a model or a batch takes."""


@dataclass
class Pulse:
    """Gives a sign from time to time; called with anything, whenever a bit of work is done.

    Attributes:
        folder: of the run.
    """

    folder: Path
    _last: float = -EVERY

    def __call__(self, *_: object) -> None:
        """Give a sign, unless one was given just now."""
        now = time.monotonic()
        if now - self._last < EVERY:
            return
        self._last = now
        with suppress(OSError):  # a sign that is missed is no reason to stop work
            (self.folder / NAME).touch()


def unknown() -> str:
    """Say nothing in particular."""
    return "nobody knows why"


@dataclass
class Silence:
    """How long has been waited without a sign; clocks of different machines are not compared.

    Attributes:
        folder: of the run.
        limit: seconds of waiting without a sign that are too long.
        slept: lets time pass.
        known: says what is known of those who do nothing.
    """

    folder: Path
    limit: float = SILENCE
    slept: Callable[[float], None] = time.sleep
    known: Callable[[], str] = unknown
    _seen: int = 0
    _waited: float = field(default=0.0)

    def wait(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            FedLeaseError: nobody has given a sign for too long.
        """
        self.slept(seconds)
        seen = self._look()
        self._waited = self._waited + seconds if seen == self._seen else 0.0
        self._seen = seen
        if self._waited > self.limit:
            raise FedLeaseError(
                f"no actor has done anything for {self.limit:g} s ({self.known()}): look at what keeps the "
                "machines busy; then 'fedlease resume' goes on"
            )

    def _look(self) -> int:
        """When the last sign was given, by the clock of whoever gave it; 0 before the first."""
        try:
            return (self.folder / NAME).stat().st_mtime_ns
        except OSError:
            return 0
