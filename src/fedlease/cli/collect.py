"""From the folders a user names to entries of a table: sweeps stand for their runs."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import normpath
from pathlib import Path

from fedlease.experiments.jobs import DIVERGED
from fedlease.experiments.manifest import read_manifest
from fedlease.experiments.results import Run
from fedlease.report.records import Entry, label


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
                entries.append(Entry(place.row, place.section, run.record, run.folder))
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
