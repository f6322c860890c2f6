"""What the tables and figures of the paper ask to be run, what of it the store lacks, and doing it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedlease.core.errors import FedLeaseError
from fedlease.data.catalog import GLUE
from fedlease.data.where import check_glue
from fedlease.experiments.jobs import Job, job, left
from fedlease.experiments.manifest import Manifest, Place, read_manifest, write_manifest
from fedlease.experiments.meter import note_of
from fedlease.experiments.pace import Pace, measure, specimens
from fedlease.experiments.places import measure_first, settle
from fedlease.experiments.prepare import read_rows, rows_hash
from fedlease.experiments.presets.kinds import Cell, Preset, Size, Values
from fedlease.experiments.results import Run
from fedlease.experiments.schedule import Watcher, carry_out
from fedlease.experiments.spec import Spec
from fedlease.experiments.tuning import Tuning


@dataclass
class Sweep:
    """The runs of some presets at one size.

    Attributes:
        presets: whose tables and figures.
        size: by name.
        out: the folder of the sweeps; the common store of runs lies in it.
        seeds: instead of the size's.
        processes: side by side; None is one a core where every run is of one thread, and else one: it has
            all cores, or the GPU, to itself.
        side_by_side: how many processes that comes to.
        tuning: the trials that choose learning rates.
        pace: how long rows take; measured when it runs.
    """

    presets: Sequence[Preset]
    size: str
    out: Path
    seeds: Sequence[int] | None = None
    processes: int | None = None

    def __post_init__(self) -> None:
        if self.processes is not None and self.processes < 1:
            raise FedLeaseError(f"--jobs is {self.processes}: it must be at least 1")
        self._entries = [(p, cell) for p in self.presets for cell in p.cells(p.size(self.size))]
        trials = {
            key: {rate: job(tried, rate) for rate in size.rates}
            for key, (size, tried) in self._tried().items()
        }
        self.tuning = Tuning(trials, self.store)
        self.pace = Pace()
        self.side_by_side = self.processes or self._one_a_core()

    def _one_a_core(self) -> int:
        single = all(cell.spec["model"].get("threads") == 1 for _, cell in self._entries)
        return (os.cpu_count() or 1) if single else 1

    def _tried(self) -> dict[str, tuple[Size, Values]]:
        """The specs on which the learning rates of all entries are chosen."""
        tried: dict[str, tuple[Size, Values]] = {}
        for preset, cell in self._entries:
            size = preset.size(self.size)
            found = (size, preset.trials(size)[cell.rate])
            if tried.setdefault(cell.rate, found) != found:
                raise FedLeaseError(f"{preset.name} has other trials of {cell.rate} than a preset beside it")
        return tried

    @property
    def store(self) -> Path:
        """The folder of all runs."""
        return self.out / "store"

    def folder(self, preset: Preset) -> Path:
        """Where the manifest of a preset is written."""
        return self.out / f"{preset.name}-{self.size}"

    def entries(self) -> Iterator[tuple[int, Cell]]:
        """Every entry with every seed: whole tables of one seed first."""
        pairs = [(seed, cell) for preset, cell in self._entries for seed in self._seeds(preset)]
        yield from sorted(pairs, key=lambda pair: pair[0])

    def _seeds(self, preset: Preset) -> Sequence[int]:
        return preset.size(self.size).seeds if self.seeds is None else self.seeds

    def job(self, cell: Cell, seed: int) -> Job | None:
        """The run of an entry; None while its learning rate is not chosen."""
        rate = self.tuning.rate(cell.rate)
        return None if rate is None else job(cell.spec, rate, seed)

    def known(self) -> list[Job]:
        """All trials, and the runs whose learning rate is chosen, each once, in the order to be done."""
        runs = [self.job(cell, seed) for seed, cell in self.entries()]
        found = {one.name: one for one in (*self.tuning.jobs, *runs) if one is not None}
        return list(found.values())

    def foreseen(self) -> list[Job]:
        """Stand-ins for the runs whose learning rate is not chosen yet, with the lowest one there is."""
        tried = self.tuning.trials
        waiting = [
            job(cell.spec, min(tried[cell.rate]), seed)
            for seed, cell in self.entries()
            if self.tuning.tuned(cell.rate) is None
        ]
        return list({one.name: one for one in waiting}.values())

    def todo(self) -> list[Job]:
        """What can be started now and is not done, trials first."""
        return [one for one in self.known() if not one.diverged(self.store) and not one.done(self.store)]

    def diverged(self) -> dict[str, str]:
        """Runs that are not tried again, because training left the finite numbers, and where; no trials."""
        trials = {one.name for one in self.tuning.jobs}
        runs = (one for one in self.known() if one.name not in trials)
        return {one.name: f"training diverged: {why}" for one in runs if (why := one.diverged(self.store))}

    def left(self, begun: Mapping[str, int]) -> float:
        """Work that is left, in seconds of one process; see `jobs.left`."""
        return left([*self.known(), *self.foreseen()], self.store, begun, self.pace)

    def run(self, watcher: Watcher) -> None:
        """Do what is left. Whenever it is stopped, what is done stays, and the same call goes on.

        Raises:
            FedLeaseError: no data, runs of other data in the store, or runs that failed; then the others
                were done all the same.
        """
        todo = self.todo()
        kinds = specimens(one.spec for one in (*todo, *self.foreseen()))
        for spec in kinds:
            _check_data(spec)
        self._check_same_data()
        for spec in {(one.model.name, one.model.threads): one for one in kinds}.values():
            measure_first(spec, Path.cwd(), note_of(watcher))  # once; processes would be in each other's way
        if todo:
            self.pace = measure(kinds, self.side_by_side, self.store / "logs", watcher.pacing)
        watcher.begin(self)
        failed = {**self.diverged(), **carry_out(self, watcher), **self.tuning.hopeless()}
        self.write_manifests()
        failed = {name: why for name, why in failed.items() if not self._done_by_now(name)}
        if failed:
            raise FedLeaseError("; ".join(f"{name}: {why}" for name, why in failed.items()))

    def _done_by_now(self, name: str) -> bool:
        """Whether a run that failed here was done by another process since."""
        return any(one.name == name and one.done(self.store) for one in self.known())

    def _check_same_data(self) -> None:
        """Refuse runs in the store that were made on other rows than there are now."""
        now: dict[str, dict[str, str]] = {}
        for one in self.known():
            if not one.done(self.store):
                continue
            key = one.spec.model_dump_json(include={"clients", "data", "seed"})
            if key not in now:
                held = read_rows(one.spec, settle(one.spec, Path.cwd()))
                now[key] = {client: rows_hash(rows) for client, rows in held.items()}
            there = Run(one.folder(self.store)).record["clients"]
            if any(there[client]["rows_hash"] != found for client, found in now[key].items()):
                raise FedLeaseError(
                    f"{one.folder(self.store)} was made on other rows than those that are here now: "
                    "choose another --out, or the data of then"
                )

    def write_manifests(self) -> None:
        """Write ``sweep.json`` for every preset whose learning rates are all known.

        Seeds of an earlier sweep whose runs are there stay in it.
        """
        for preset in self.presets:
            size = preset.size(self.size)
            cells = preset.cells(size)
            rates = {key: self.tuning.tuned(key) for key in sorted({cell.rate for cell in cells})}
            known = {key: tuned for key, tuned in rates.items() if tuned is not None}
            if len(known) < len(rates):
                continue
            before = read_manifest(self.folder(preset))
            seeds = {*self._seeds(preset), *(place.seed for place in (before.runs if before else ()))}
            places = [
                Place(cell.row, cell.section, seed, os.path.join("..", "store", one.name))
                for cell in cells
                for seed in sorted(seeds)
                if (one := self.job(cell, seed)) is not None
                and (seed in self._seeds(preset) or one.done(self.store))
            ]
            manifest = Manifest(preset.name, self.size, preset.title, places, known)
            write_manifest(self.folder(preset), manifest)


def _check_data(spec: Spec) -> None:
    """Find out in seconds, before any process starts, that there is data to run on."""
    named = {name for entry in spec.clients for name in entry.names}
    if named & GLUE.keys() and spec.data.root is None:
        check_glue(os.environ)
    read_rows(spec, settle(spec, Path.cwd()))
