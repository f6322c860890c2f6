"""A run that is done, or as far as it got: its record and what can be asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fedlease.allocation import Allocation
from fedlease.core.errors import FedLeaseError
from fedlease.experiments.spec import Spec
from fedlease.experiments.store import Store

ASKED = ("name", "seed", "rounds", "score_every", "model", "training", "data", "clients")
"""The keys of a spec that `same_spec` compares, beside the method's name."""


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
    def metric(self) -> str:
        """The name of the main metric."""
        return str(self.record.get("metric", "accuracy"))

    @property
    def score(self) -> float:
        """Mean of the main metric over the clients of the last scored round, between 0 and 1.

        Raises:
            FedLeaseError: no round is scored yet.
        """
        return self._mean(self.metric)

    @property
    def accuracy(self) -> float:
        """Mean accuracy over the clients of the last scored round, between 0 and 1.

        Raises:
            FedLeaseError: no round is scored yet, or the run's clients are scored by something else.
        """
        return self._mean("accuracy")

    def _mean(self, metric: str) -> float:
        found = self.metrics
        if not found:
            done = len(self.record["rounds"])
            raise FedLeaseError(f"{self.folder}: no client is scored yet, after {done} rounds")
        scores = [scores[metric] for scores in found.values() if metric in scores]
        if not scores:
            known = ", ".join(sorted({name for scores in found.values() for name in scores}))
            raise FedLeaseError(f"{self.folder}: there is no {metric} in its scores; there is: {known}")
        return sum(scores) / len(scores)

    def adapter(self, client: str) -> Path:
        """The PEFT folder of what a client uses."""
        return self.folder / "adapters" / client


def same_spec(folder: Path, spec: Spec) -> bool:
    """Whether a folder holds a run of this spec; of the method's settings only its name is compared.

    Raises:
        FedLeaseError: not the folder of a run.
    """
    there, asked = Store(folder).resolved()["spec"], spec.model_dump(mode="json")
    same = all(there.get(key) == asked.get(key) for key in ASKED)
    return same and there["method"]["name"] == asked["method"]["name"]
