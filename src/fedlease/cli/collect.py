"""From the folders a user names to entries of a table: sweeps stand for their runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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
