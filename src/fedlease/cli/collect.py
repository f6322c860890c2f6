"""From the folders a user names to entries of a table: sweeps stand for their runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os.path import normpath
from pathlib import Path

from fedlease.core.errors import FedLeaseError
from fedlease.experiments.jobs import DIVERGED
from fedlease.experiments.manifest import NAME as MANIFEST
from fedlease.experiments.manifest import read_manifest
from fedlease.experiments.results import Run
from fedlease.report.records import Entry, label
from fedlease.report.words import some


@contextmanager
def readable(folders: Sequence[Path]) -> Iterator[None]:
    """Around what reads records: one that is whole as JSON and lacks something inside is said in a line.

    Raises:
        FedLeaseError: in the place of what Python raises where a part is missing or of another kind.
    """
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        why = " ".join(f"{type(error).__name__} {error}".split())
        whose = some(list(map(str, folders)), 4)
        raise FedLeaseError(f"{whose}: the record is damaged, or of another version: {why}") from error


def chosen(paths: Sequence[Path]) -> list[Path]:
    """Return the runs and sweeps among paths such as ``runs/*`` names; a line on stderr for every other.

    Raises:
        FedLeaseError: there is none among them.
    """
    reasons = {path: _no_run(path) for path in paths}
    found = [path for path in paths if reasons[path] is None]
    left_out = [f"{path} {reason}" for path, reason in reasons.items() if reason is not None]
    if not found:
        raise FedLeaseError("; ".join(left_out))
    for line in left_out:
        print(f"note: left out: {line}", file=sys.stderr)
    return found


def _no_run(path: Path) -> str | None:
    """Why a path has nothing to show; None for runs, sweeps, and what is not there and was meant to be."""
    if not path.exists() or (path / MANIFEST).is_file() or (path / "record.json").is_file():
        return None
    if (path / "spec.json").is_file():
        return "has no record.json: the run was stopped before its first round"
    inside = sorted({str(file.parent) for name in ("spec.json", MANIFEST) for file in path.glob(f"*/{name}")})
    holds = f", but holds some: name {some(inside, 4)}" if inside else ""
    return f"is not the folder of a run or of a sweep{holds}"


def collect(folders: Sequence[Path]) -> list[Entry]:
    """Return an entry for every run in the order given; of a sweep, those runs that have a record by now.

    Raises:
        FedLeaseError: a folder that is neither a run nor a sweep, or one of another format.
    """
    entries = []
    for folder in folders:
        manifest = read_manifest(folder)
        if manifest is None:
            record = Run(folder).record
            entries.append(Entry(label(record), "", record, folder))
            continue
        for place in manifest.runs:
            run = Run(folder / place.folder)
            if (run.folder / "record.json").is_file():
                ended = {"status": "diverged"} if (run.folder / DIVERGED).is_file() else {}
                entries.append(Entry(place.row, place.section, {**run.record, **ended}, run.folder))
    return entries


def waiting(folders: Sequence[Path]) -> list[str]:
    """The runs of sweeps that have no record yet: row, section, seed and folder of each."""
    found = []
    for folder in folders:
        manifest = read_manifest(folder)
        for place in manifest.runs if manifest is not None else ():
            run = folder / place.folder
            if not (run / "record.json").is_file():
                section = f" {place.section}" if place.section else ""
                why = ", training diverged" if (run / DIVERGED).is_file() else ""
                found.append(f"{place.row}{section} seed {place.seed}{why}, {normpath(run)}")
    return found


def title_of(folders: Sequence[Path]) -> str:
    """The title of the sweep, where all folders are of one; else empty."""
    manifests = [read_manifest(folder) for folder in folders]
    titles = {"" if manifest is None else manifest.title for manifest in manifests}
    return titles.pop() if len(titles) == 1 else ""
