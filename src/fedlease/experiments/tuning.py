"""Learning rates for the runs of a sweep, chosen by trials that are scored on held-out training rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fedlease.experiments.jobs import Job
from fedlease.experiments.manifest import Tuned
from fedlease.experiments.results import Run


@dataclass(frozen=True)
class Tuning:
    """The trials of every learning rate that is to be chosen.

    Attributes:
        trials: by the key that runs take a rate under, and by rate.
        store: the folder of all runs.
    """

    trials: Mapping[str, Mapping[float, Job]]
    store: Path
    _known: dict[str, Tuned] = field(default_factory=dict)

    @property
    def jobs(self) -> list[Job]:
        """All trials."""
        return [one for rates in self.trials.values() for one in rates.values()]

    def tuned(self, key: str) -> Tuned | None:
        """The rate of the best trial, the lower of equals; None while a trial is missing."""
        if key not in self._known:
            found = self._find(key)
            if found is None:
                return None
            self._known[key] = found
        return self._known[key]

    def rate(self, key: str) -> float | None:
        """The rate that is chosen; None while it is not, or when training diverged at every rate."""
        found = self.tuned(key)
        return None if found is None else found.chosen

    def hopeless(self) -> dict[str, str]:
        """What has no rate because training diverged at every one that was tried."""
        return {
            key: "training diverged at every learning rate that was tried"
            for key in self.trials
            if (found := self.tuned(key)) is not None and found.chosen is None
        }

    def _find(self, key: str) -> Tuned | None:
        scores: dict[str, float | None] = {}
        for rate, one in sorted(self.trials[key].items()):
            if one.diverged(self.store):
                scores[f"{rate:g}"] = None
            elif one.done(self.store):
                scores[f"{rate:g}"] = Run(one.folder(self.store)).score
            else:
                return None
        finite = {rate: score for rate, score in scores.items() if score is not None}
        best = max(finite.values(), default=None)
        return Tuned(next((float(rate) for rate, score in finite.items() if score == best), None), scores)
