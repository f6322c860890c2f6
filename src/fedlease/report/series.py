"""From runs to what a picture draws: the runs of several seeds together, and one run where one is drawn."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from statistics import mean, stdev
from typing import Any, NamedTuple

from fedlease.core.errors import FedLeaseError
from fedlease.report.records import Entry, Record, average, groups, metric, scored
from fedlease.report.settings import settings_of, with_settings


class Series(NamedTuple):
    """Runs that differ in their seed alone.

    Attributes:
        row, section: their place, see `Entry`; rows with differing settings are told apart by them.
        runs: in the order given.
    """

    row: str
    section: str
    runs: tuple[Entry, ...]

    @property
    def record(self) -> Record:
        """The record of the first run."""
        return self.runs[0].record


class Measure(NamedTuple):
    """A score over the runs of a series, in percent.

    Attributes:
        mean: over the runs; nan where no client of the kind was scored.
        deviation: the sample deviation over the runs; 0 with a single one.
    """

    mean: float
    deviation: float


def series(entries: Sequence[Entry]) -> list[Series]:
    """Put the runs of one row and section together, in the order they come.

    Runs of one row and section whose settings differ by more than the seed become rows of their own, named
    by these settings.

    Raises:
        FedLeaseError: a run that is named twice.
    """
    places: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        places.setdefault((entry.row, entry.section), []).append(entry)
    found: dict[tuple[str, str], list[Entry]] = {}
    for (_, section), runs in places.items():
        settings = [settings_of(run.record) for run in runs]
        for run in runs:
            found.setdefault((with_settings(run, settings), section), []).append(run)
    for (row, _), runs in found.items():
        seeds: dict[Any, Entry] = {}
        for run in runs:
            other = seeds.setdefault(run.record["seed"], run)
            if other is not run:
                both = f"{os.path.normpath(other.folder)} and {os.path.normpath(run.folder)}"
                raise FedLeaseError(f"{both} are the same run of {row} with the same seed: name one of them")
    return [Series(row, section, tuple(runs)) for (row, section), runs in found.items()]


def measure(one: Series, clients: Iterable[str] | None = None) -> Measure:
    """Return the mean score of some clients, or of all, in the last scored round.

    Raises:
        FedLeaseError: a run in which no client is scored yet.
    """
    values = []
    for run in one.runs:
        rounds = scored(run.record)
        if not rounds:
            raise FedLeaseError(f"{run.folder}: no client is scored yet")
        scores = rounds[-1].scores
        value = average(scores, scores if clients is None else list(clients))
        if value is not None:
            values.append(value)
    if not values:
        return Measure(float("nan"), 0.0)
    return Measure(mean(values), stdev(values) if len(values) > 1 else 0.0)


def same_clients(drawn: Sequence[Series]) -> dict[str, list[str]]:
    """Return the groups of clients that all these runs have.

    Raises:
        FedLeaseError: they have different ones, or are scored by different metrics.
    """
    first = drawn[0].runs[0]
    for run in (run for one in drawn for run in one.runs):
        if groups(run.record) != groups(first.record) or metric(run.record) != metric(first.record):
            raise FedLeaseError(
                f"{first.folder} and {run.folder} have different clients or metrics: they cannot be compared"
            )
    return groups(first.record)


def one_run(entries: Sequence[Entry], usable: Callable[[Entry], bool], needed: str) -> Entry:
    """Return the run to draw where a picture shows a single one: the first of several seeds.

    Args:
        entries: the runs to choose from.
        usable: tells those that can be drawn.
        needed: what such a run is, for the message.

    Raises:
        FedLeaseError: there is none, or there are several that differ by more than the seed.
    """
    found = series([entry for entry in entries if usable(entry)])
    if not found:
        raise FedLeaseError(f"{needed} is needed; none of the runs given is one")
    if len(found) > 1:
        names = ", ".join(os.path.normpath(one.runs[0].folder) for one in found)
        raise FedLeaseError(
            f"one run is drawn, and {len(found)} different ones could be: name one of {names}"
        )
    return found[0].runs[0]
