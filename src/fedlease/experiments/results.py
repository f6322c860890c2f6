"""A run that is done, or as far as it got: its record and what can be asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fedlease.allocation import Allocation
from fedlease.experiments.store import Store


@dataclass(frozen=True)
class Run:
    """The folder of a run, opened for reading.

    Attributes:
        folder: where it lies.
    """

    folder: Path

    @cached_property
    def record(self) -> dict[str, Any]:
        """The run's JSON record.

        Raises:
            FedLeaseError: not the folder of a run, or no round done yet.
        """
        return Store(self.folder).record()

    @property
    def allocation(self) -> Allocation | None:
        """Which client trains which expert; None for methods that do not allocate."""
        found = self.record.get("allocation")
        return None if found is None else Allocation.from_json(found)

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Every client's scores in the last scored round."""
        scored = [entry for entry in self.record["rounds"] if entry["metrics"]]
        metrics: dict[str, dict[str, float]] = scored[-1]["metrics"] if scored else {}
        return metrics

    @property
    def accuracy(self) -> float:
        """Mean accuracy over clients in the last scored round, between 0 and 1."""
        scores = [scores["accuracy"] for scores in self.metrics.values()]
        return sum(scores) / len(scores)

    def adapter(self, client: str) -> Path:
        """The PEFT folder of what a client uses."""
        return self.folder / "adapters" / client
