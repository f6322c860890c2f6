"""How long a row takes on this machine: measured before a sweep, for what the sweep announces.

A row's time depends on the model, on what is done with the row and, above all where texts are written, on
where it comes from. So each is measured for itself, on a few batches of one client of every group.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

from fedlease.core.adapter import Learn
from fedlease.core.errors import FedLeaseError
from fedlease.experiments.clients import ClientSpec
from fedlease.experiments.places import settle
from fedlease.experiments.pool import Pool
from fedlease.experiments.prepare import prepare
from fedlease.experiments.spec import Spec
from fedlease.experiments.work import KINDS, Costs

BATCHES = 3
"""Training batches of every group that are measured."""

LONG = 2.0
"""Seconds; what took less is measured again, for the first batches of a shape are slower."""

OF_PACE = ("batch_size", "pool", "score_batch_size", "micro_batch_size")
"""The settings of training that a row's time depends on."""

Like = tuple[str, str]
"""A model, and what else a row's time depends on: its settings and where its rows come from."""

Measured = Mapping[str, Mapping[str, float]]
"""Seconds a row of each group of a spec takes, by kind of work."""


@dataclass(frozen=True)
class Pace:
    """What was measured.

    Attributes:
        seconds: that a row takes one process while all of them work, by its likes and kind of work.
    """

    seconds: Mapping[tuple[Like, str], float] = field(default_factory=dict)

    def costs(self, spec: Spec) -> Costs:
        """What rows of a spec cost."""
        return {
            (entry.name, kind): self.seconds[like(spec, entry), kind]
            for entry in spec.clients
            for kind in KINDS
        }

    def told(self) -> str:
        """Rows a second by model: the harmonic mean over the kinds of rows that were measured."""
        of: dict[str, dict[str, list[float]]] = {}
        for ((model, _), kind), seconds in self.seconds.items():
            of.setdefault(model, {}).setdefault(kind, []).append(seconds)
        rates = {model: {kind: 1 / fmean(each) for kind, each in of[model].items()} for model in of}
        return "; ".join(
            f"{model} {rate['train']:.3g} rows/s in training, {rate['score']:.3g} in scoring, "
            f"{rate['loss']:.3g} in computing losses"
            for model, rate in rates.items()
        )


def like(spec: Spec, entry: ClientSpec) -> Like:
    """What tells the rows of a group from those that take another time."""
    told = {
        **spec.model_dump(mode="json", include={"model", "generation"}),
        "training": {key: getattr(spec.training, key) for key in OF_PACE},
        "rows": entry.model_dump(mode="json", exclude={"name", "count", "train_rows", "test_rows", "split"}),
    }
    return spec.model.name, json.dumps(told, sort_keys=True)


def specimens(specs: Iterable[Spec]) -> list[Spec]:
    """Return those specs that have, between them, every kind of rows of the given ones."""
    seen: set[Like] = set()
    found = []
    for spec in specs:
        kinds = {like(spec, entry) for entry in spec.clients}
        if kinds - seen:
            found.append(spec)
        seen |= kinds
    return found


def measure(
    specs: Sequence[Spec], processes: int, logs: Path, tell: Callable[[int, int], None] = lambda *_: None
) -> Pace:
    """Measure rows of these specs in so many processes at once, as a sweep works.

    Args:
        specs: see `specimens`.
        processes: that measure the same, side by side.
        logs: a folder for what libraries say.
        tell: told how many groups of clients are measured by now, and of how many.

    Raises:
        FedLeaseError: no process could do a few batches; it says why.
    """
    found: list[list[Measured]] = []
    said: list[str] = []
    asked = [spec.model_dump(mode="json", exclude_unset=True) for spec in specs]
    done, whole = 0, processes * sum(len(spec.clients) for spec in specs)
    tell(done, whole)
    with Pool(logs) as pool:
        for number in range(processes):
            pool.start(f"pace-{number}", {"pace": asked})
        while pool.running:
            event = pool.wait(1.0)
            if event is None:
                continue
            if "measured" in event.said:
                done += 1
                tell(done, whole)
            elif "pace" in event.said:
                found.append(event.said["pace"])
            elif "error" in event.said:
                said.append(str(event.said["error"]))
    if not found:
        raise FedLeaseError(said[0] if said else f"a process failed: see {logs}")
    return Pace(
        {
            (like(spec, entry), kind): fmean(of_process[place][entry.name][kind] for of_process in found)
            for place, spec in enumerate(specs)
            for entry in spec.clients
            for kind in KINDS
        }
    )


def measured_here(spec: Spec, tell: Callable[[str], None] = lambda _: None) -> Measured:
    """Measure in this process, and tell of each group when it is done.

    Texts are written by a model that has been trained a little: one that has not seldom comes to an end.
    """
    federation = prepare(_few(spec), settle(spec, Path.cwd()))
    algorithm, task = federation.algorithm, Learn(round=1, epochs=1)
    state = algorithm.init(federation.base.modules, spec.seed)
    found = {}
    for group, site in federation.sites.items():
        start = algorithm.deploy(algorithm.serve(state, group), {})
        model = replace(start, weights=site.train(start, task))
        train, test = len(site.train_rows), len(site.test_rows)
        loss = _seconds(site.loss, model) / train
        found[group] = {
            "train": _seconds(site.train, model, task) / train,
            "loss": loss,
            "usage": loss,
            "score": _seconds(site.score, model) / test,
        }
        tell(group)
    return found


def _few(spec: Spec) -> Spec:
    """The spec with one client a group, and a few batches of rows for each."""
    train, test = BATCHES * spec.training.batch_size, spec.training.score_batch_size
    entries = [
        entry.model_copy(
            update={
                "count": None,
                "split": None,
                "train_rows": min(train, entry.train_rows or train),
                "test_rows": min(test, entry.test_rows or test),
            }
        )
        for entry in spec.clients
    ]
    return spec.model_copy(update={"clients": tuple(entries)})


def _seconds(act: Callable[..., Any], *given: Any) -> float:
    took = _once(act, *given)
    return took if took >= LONG else _once(act, *given)


def _once(act: Callable[..., Any], *given: Any) -> float:
    began = perf_counter()
    act(*given)
    return perf_counter() - began
