"""What a piece of work came to, as it is reported to the server beside the answer."""

from __future__ import annotations

from dataclasses import dataclass

from fedlease.core.progress import Progress
from fedlease.experiments.work import kind_of


@dataclass
class Spent:
    """Adds up the steps of a task: rows, seconds, and those of them that were no training."""

    rows: int = 0
    seconds: float = 0.0
    scored_rows: int = 0
    scored_seconds: float = 0.0
    loss: float | None = None

    def clear(self) -> None:
        """Start again at zero."""
        self.rows = self.scored_rows = 0
        self.seconds = self.scored_seconds = 0.0
        self.loss = None

    def step(self, step: Progress) -> None:
        """Take note of a batch."""
        self.rows += step.rows
        self.seconds += step.seconds
        if kind_of(step.purpose) != "train":
            self.scored_rows += step.rows
            self.scored_seconds += step.seconds
        elif step.loss is not None:
            self.loss = step.loss

    def told(self) -> dict[str, str | float]:
        """Return what is reported; see `fedlease.engines.reports`."""
        told: dict[str, str | float] = {"rows": self.rows, "seconds": self.seconds}
        if self.loss is not None:
            told["loss"] = self.loss
        if 0 < self.scored_rows < self.rows:
            told |= {"scored_rows": self.scored_rows, "scored_seconds": self.scored_seconds}
        return told
