"""From entries to the rows of a table: which runs stand for one row, and whether rows can be compared."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fedlease.core.errors import FedLeaseError
from fedlease.report.records import Entry, Record, groups, label, metric
from fedlease.report.settings import difference, settings_of, told_apart
from fedlease.report.statistics import Scores
from fedlease.report.summary import last_scored

FEDLEASE = ("fedlease", "fedlease_paper")
"""The names of FedLEASE; a method of another package that only begins like it is another one."""


@dataclass(frozen=True)
class Row:
    """The complete runs of one row in one section.

    Attributes:
        name: what the row is called.
        method: its method's name; all presets of FedLEASE are ``"fedlease"``, but for an expert a client,
            which is a method of its own.
        records: by seed, sorted.
    """

    name: str
    method: str
    records: Mapping[int, Record]

    @cached_property
    def scores(self) -> Scores:
        """Every client's score in the last scored round, by seed; without seeds in which none was scored."""
        found = {seed: last_scored(record) for seed, record in self.records.items()}
        return {seed: last.scores for seed, last in found.items() if last is not None}


@dataclass(frozen=True)
class Part:
    """The rows of one section, all with the same clients.

    Attributes:
        name: of the section; empty where there is only one.
        groups: the clients of every group.
        rows: by name, in the order they came.
    """

    name: str
    groups: Mapping[str, Sequence[str]]
    rows: Mapping[str, Row]


def gather(entries: Sequence[Entry]) -> list[Part]:
    """Sort complete runs into sections and rows, in the order they came.

    Raises:
        FedLeaseError: no run is complete; runs of different metrics; in one section runs with different
            clients, with other rows for the same seed, or two different runs for the same row and seed; a
            row whose seeds have different settings.
    """
    complete = [entry for entry in entries if is_complete(entry)]
    if not complete:
        named = "; ".join(map(described, entries)) or "no run has a record yet"
        raise FedLeaseError(f"there is no table: no run is complete ({named})")
    for entry in complete:
        if metric(entry.record) != metric(complete[0].record):
            both = f"{metric(complete[0].record)} and {metric(entry.record)}"
            raise FedLeaseError(
                f"{_folder(complete[0])} and {_folder(entry)} are scored by {both}: they have no common table"
            )
    places: dict[str, dict[str, list[Entry]]] = {}
    for entry in told_apart(entries):  # incomplete runs hold their rows' places
        runs = places.setdefault(entry.section, {}).setdefault(entry.row, [])
        if is_complete(entry):
            runs.append(entry)
    in_sections = {name: [run for runs in rows.values() for run in runs] for name, rows in places.items()}
    return [_part(name, runs) for name, runs in in_sections.items() if runs]


def is_complete(entry: Entry) -> bool:
    """Whether the run of an entry came to its end."""
    return bool(entry.record["status"] == "complete")


def described(entry: Entry) -> str:
    """A run that is left out: row, section, seed, how far it came and where it lies."""
    record = entry.record
    done = f"{record['status']}, {len(record['rounds'])} of {record['spec']['rounds']} rounds"
    section = f" {entry.section}" if entry.section else ""
    return f"{entry.row}{section} seed {record['seed']}: {done}, {_folder(entry)}"


def _folder(entry: Entry) -> str:
    return os.path.normpath(entry.folder)


def _part(name: str, entries: Sequence[Entry]) -> Part:
    first = entries[0]
    of_seed: dict[int, Entry] = {}
    rows: dict[str, dict[int, Entry]] = {}
    for entry in entries:
        if groups(entry.record) != groups(first.record):
            raise FedLeaseError(f"{_folder(first)} and {_folder(entry)} have different clients{_in(name)}")
        seed = int(entry.record["seed"])
        _check_same_rows(of_seed.setdefault(seed, entry), entry, seed)
        there = rows.setdefault(entry.row, {}).setdefault(seed, entry)
        if _found(there.record) != _found(entry.record):
            raise FedLeaseError(
                f"{_folder(there)} and {_folder(entry)} are two different runs of {entry.row}{_in(name)}, "
                f"seed {seed}: name one of them"
            )
    for row, runs in rows.items():
        _check_same_settings(row + _in(name), list(runs.values()))
    made = {
        row: Row(row, _family(next(iter(runs.values())).record), {s: runs[s].record for s in sorted(runs)})
        for row, runs in rows.items()
    }
    return Part(name, groups(first.record), made)


def _in(section: str) -> str:
    return f" in {section}" if section else ""


def _family(record: Record) -> str:
    name = label(record)
    if name not in FEDLEASE:
        return name
    # one expert a client shares nothing to begin with: it is what others are measured against
    alone = record["spec"]["method"].get("experts") == "clients"
    return "fedlease, an expert a client" if alone else "fedlease"


def _check_same_rows(first: Entry, other: Entry, seed: int) -> None:
    for client, facts in first.record["clients"].items():
        if facts.get("rows_hash") != other.record["clients"][client].get("rows_hash"):
            raise FedLeaseError(
                f"{_folder(first)} and {_folder(other)} are not of the same data: "
                f"client {client} has other rows with seed {seed}"
            )


def _check_same_settings(row: str, runs: Sequence[Entry]) -> None:
    """A row that a sweep names is one setting: seeds of two are no mean."""
    for run in runs[1:]:
        differ = difference(runs[0].record, run.record)
        if differ:
            raise FedLeaseError(
                f"{_folder(runs[0])} and {_folder(run)} are two seeds of {row} with different settings "
                f"({differ}): leave one of them out"
            )


def _found(record: Record) -> tuple[Any, ...]:
    """What makes two runs of a seed the same: times and machines may differ."""
    return settings_of(record), [entry["metrics"] for entry in record["rounds"]]
