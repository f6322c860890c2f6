"""Run the tables and figures of the paper: what the store lacks, on all cores, with chosen learning rates."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fedlease.core.errors import FedLeaseError
from fedlease.data.catalog import GLUE
from fedlease.data.where import check_glue
from fedlease.experiments.jobs import Job, job, left
from fedlease.experiments.manifest import Manifest, Place, Tuned, write_manifest
from fedlease.experiments.pool import Event, Pool, each
from fedlease.experiments.prepare import read_rows, settle
from fedlease.experiments.presets.kinds import Cell, Preset, Size, Values
from fedlease.experiments.results import Run
from fedlease.experiments.spec import Spec


class Watcher(Protocol):
    """Whoever shows a sweep to people."""

    def begin(self, sweep: Sweep, pace: float) -> None:
        """It starts; a process does ``pace`` rows a second."""

    def event(self, event: Event) -> None:
        """A process said something, or ended."""

    def chosen(self, key: str, tuned: Tuned) -> None:
        """A learning rate is chosen."""


@dataclass
class Sweep:
    """The runs of some presets at one size.

    Attributes:
        presets: whose tables and figures.
        size: by name.
        out: the folder of the sweeps; the common store of runs lies in it.
        seeds: instead of the size's.
        processes: side by side.
    """

    presets: Sequence[Preset]
    size: str
    out: Path
    seeds: Sequence[int] | None = None
    processes: int = field(default_factory=lambda: os.cpu_count() or 1)

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise FedLeaseError(f"--jobs is {self.processes}: it must be at least 1")
        self._entries = [(p, cell) for p in self.presets for cell in p.cells(p.size(self.size))]
        self._trials = {
            key: {rate: job(tried, rate) for rate in size.rates}
            for key, (size, tried) in self._tried().items()
        }

    def _tried(self) -> dict[str, tuple[Size, Values]]:
        """The specs on which the learning rates of all entries are chosen."""
        tried: dict[str, tuple[Size, Values]] = {}
        for preset, cell in self._entries:
            size = preset.size(self.size)
            tried.setdefault(cell.rate, (size, preset.trials(size)[cell.rate]))
        return tried

    @property
    def store(self) -> Path:
        """The folder of all runs."""
        return self.out / "store"

    def folder(self, preset: Preset) -> Path:
        """Where the manifest of a preset is written."""
        return self.out / f"{preset.name}-{self.size}"

    @property
    def trials(self) -> list[Job]:
        """The runs that choose learning rates."""
        return [one for rates in self._trials.values() for one in rates.values()]

    def runs(self) -> list[Job]:
        """The runs of all entries, each once; where no rate is chosen yet, with the lowest of them."""
        found = {}
        for seed, cell in self._by_seed():
            one = self._job(cell, seed) or job(cell.spec, min(self._trials[cell.rate]), seed)
            found[one.name] = one
        return list(found.values())

    def _by_seed(self) -> list[tuple[int, Cell]]:
        """Every entry with every seed: whole tables of one seed first."""
        pairs = [(seed, cell) for preset, cell in self._entries for seed in self._seeds(preset)]
        return sorted(pairs, key=lambda pair: pair[0])

    def _seeds(self, preset: Preset) -> Sequence[int]:
        return preset.size(self.size).seeds if self.seeds is None else self.seeds

    def _job(self, cell: Cell, seed: int) -> Job | None:
        tuned = self.tuned(cell.rate)
        return None if tuned is None else job(cell.spec, tuned.chosen, seed)

    def tuned(self, key: str) -> Tuned | None:
        """The learning rate of the best trial, the lower of equals; None while a trial is missing.

        Raises:
            FedLeaseError: every trial diverged.
        """
        scores: dict[str, float | None] = {}
        for rate, one in sorted(self._trials[key].items()):
            if one.diverged(self.store):
                scores[f"{rate:g}"] = None
            elif one.done(self.store):
                scores[f"{rate:g}"] = Run(one.folder(self.store)).score
            else:
                return None
        finite = {rate: score for rate, score in scores.items() if score is not None}
        if not finite:
            raise FedLeaseError(f"{key}: training diverged at every learning rate that was tried")
        best = max(finite.values())
        return Tuned(float(next(rate for rate, score in finite.items() if score == best)), scores)

    def left(self) -> float:
        """Work that is left, in rows trained."""
        return left([*self.trials, *self.runs()], self.store)

    def run(self, watcher: Watcher) -> None:
        """Do what is left. Whenever it is stopped, what is done stays, and the same call goes on.

        Raises:
            FedLeaseError: a run failed; the others were done all the same.
        """
        todo = self._todo()
        if todo:
            _check_data(todo[0].spec)
        with Pool(self.store / "logs") as pool:
            watcher.begin(self, self._pace(pool, todo[0]) if todo else 0.0)
            failed = self._go(pool, watcher)
        self.write_manifests()
        if failed:
            name, why = next(iter(failed.items()))
            more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
            raise FedLeaseError(f"{name}: {why}{more}")

    def _go(self, pool: Pool, watcher: Watcher) -> dict[str, str]:
        """Keep every process busy until nothing is left; return what failed and why."""
        failed: dict[str, str] = {}
        said: dict[str, str] = {}
        told: set[str] = set()
        active: dict[str, Job] = {}
        while True:
            self._tell_rates(watcher, told)
            waiting = [one for one in self._todo() if one.name not in failed and one.name not in active]
            while waiting and len(active) < self.processes:
                one = _next(waiting, active.values())
                waiting.remove(one)
                active[one.name] = one
                pool.start(one.name, self._asked(one))
            if not active:
                return failed
            ended = self._hear(pool, watcher, said)
            one = active.pop(ended.name)
            if not one.done(self.store) and not (one in self.trials and one.diverged(self.store)):
                log = self.store / "logs" / f"{ended.name}.log"
                failed[ended.name] = said.get(ended.name, f"it ended with status {ended.code}; see {log}")

    def _tell_rates(self, watcher: Watcher, told: set[str]) -> None:
        """Tell of learning rates that are chosen by now, each once."""
        for key in self._trials.keys() - told:
            tuned = self.tuned(key)
            if tuned is not None:
                told.add(key)
                watcher.chosen(key, tuned)
                self.write_manifests()

    @staticmethod
    def _hear(pool: Pool, watcher: Watcher, said: dict[str, str]) -> Event:
        """Pass on what processes say until one ends; note down what went wrong."""
        while True:
            event = pool.wait(1.0)
            if event is None:
                continue
            for key in ("error", "diverged"):
                if key in event.said:
                    said[event.name] = str(event.said[key])
            watcher.event(event)
            if event.code is not None:
                return event

    def _todo(self) -> list[Job]:
        """What is left and can be started: trials first, then runs whose learning rate is chosen."""
        found = {one.name: one for one in self.trials if not one.diverged(self.store)}
        found |= {
            one.name: one for seed, cell in self._by_seed() if (one := self._job(cell, seed)) is not None
        }
        return [one for one in found.values() if not one.done(self.store)]

    def _asked(self, one: Job) -> dict[str, Any]:
        return {
            "folder": str(one.folder(self.store)),
            "spec": one.spec.model_dump(mode="json", exclude_unset=True),
            "memory": str(self.store / "shared"),
        }

    def _pace(self, pool: Pool, one: Job) -> float:
        """Rows a second of one process while all of them work."""
        spec, paces = one.spec.model_dump(mode="json", exclude_unset=True), []
        said: list[str] = []

        def told(event: Event) -> None:
            if "pace" in event.said:
                paces.append(float(event.said["pace"]))
            elif "error" in event.said:
                said.append(str(event.said["error"]))

        each(pool, {f"pace-{n}": {"pace": True, "spec": spec} for n in range(self.processes)}, told)
        if not paces:
            raise FedLeaseError(said[0] if said else f"a process failed: see {self.store / 'logs'}")
        return sum(paces) / len(paces)

    def write_manifests(self) -> None:
        """Write ``sweep.json`` for every preset whose learning rates are all chosen."""
        for preset in self.presets:
            size = preset.size(self.size)
            cells = preset.cells(size)
            rates = {key: self.tuned(key) for key in sorted({cell.rate for cell in cells})}
            known = {key: tuned for key, tuned in rates.items() if tuned is not None}
            if len(known) < len(rates):
                continue
            places = [
                Place(cell.row, cell.section, seed, os.path.join("..", "store", one.name))
                for cell in cells
                for seed in self._seeds(preset)
                if (one := self._job(cell, seed)) is not None
            ]
            write_manifest(self.folder(preset), Manifest(preset.name, self.size, preset.title, places, known))


def _check_data(spec: Spec) -> None:
    """Find out in seconds, before any process starts, that there is data to run on."""
    named = {name for entry in spec.clients for name in entry.names}
    if named & GLUE.keys() and spec.data.root is None:
        check_glue(os.environ)
    read_rows(spec, settle(spec, Path.cwd()))


def _next(waiting: Sequence[Job], active: Iterable[Job]) -> Job:
    """The first job that shares no training with one that goes on: it would do it a second time."""
    busy = {key for one in active for key in one.work.shared}
    return next((one for one in waiting if not busy & one.work.shared.keys()), waiting[0])
