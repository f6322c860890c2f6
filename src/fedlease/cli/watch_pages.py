"""What `fedlease watch` finds in a folder: a run, or several."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import RenderableType

from fedlease.cli.live import clock, round_lines
from fedlease.cli.watch import Page
from fedlease.cli.watch_runs import Runs
from fedlease.cli.watch_view import View, doing, progress, state
from fedlease.core.errors import FedLeaseError
from fedlease.experiments.manifest import read_manifest
from fedlease.experiments.watching import Seen, Watched
from fedlease.report.records import label

EVERY = 10.0
"""Seconds between plain lines while a round goes on."""


def page_of(folder: Path) -> Page:
    """Find what is to be watched.

    Args:
        folder: of a run, of a trial of `fedlease deploy`, of a sweep, or one with runs or a store in it.

    Raises:
        FedLeaseError: there is none of these in it.
    """
    if (folder / "spec.json").is_file():
        return OneRun(Watched(folder))
    if (folder / "spec.toml").is_file() and (folder / "sites").is_dir():
        if not (folder / "run" / "spec.json").is_file():
            raise FedLeaseError(
                f"{folder}: the run has not begun, its sites are awaited; watch it again soon"
            )
        return OneRun(Watched(folder / "run"))
    manifest = read_manifest(folder)
    if manifest is not None:
        named = {
            " ".join(filter(None, (place.row, place.section, f"seed {place.seed}"))): folder / place.folder
            for place in manifest.runs
        }
        return Runs(manifest.title, named)
    for place in (folder, folder / "store"):
        inside = {path.parent.name: path.parent for path in sorted(place.glob("*/spec.json"))}
        if inside:
            return Runs(str(place), inside)
    if not folder.is_dir():
        raise FedLeaseError(f"there is no folder {folder}: a run makes it once its data and model are loaded")
    raise FedLeaseError(f"{folder} holds no run: it has no spec.json, and no folder in it has one")


class OneRun:
    """A run, as a `Page`."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._seen: Seen | None = None
        self._told = -1  # rounds; before the first line of all
        self._allocated = False
        self._spoke = 0.0

    def look(self) -> bool:
        """See `Page`."""
        self._seen = self._watched.look()
        return self._seen.state == "running"

    @property
    def seen(self) -> Seen:
        """The run when it was looked at last."""
        assert self._seen is not None
        return self._seen

    def view(self, height: int | None) -> RenderableType:
        """See `Page`."""
        return View(self.seen, height)

    def lines(self) -> list[str]:
        """See `Page`."""
        seen, record, now = self.seen, self.seen.record, time.monotonic()
        method = label(record)
        lines = []
        if self._told < 0:
            lines.append(
                f"{record['spec']['name']}: {method}, {len(record['clients'])} clients, {state(seen)}"
            )
        for entry in record["rounds"][max(self._told, 0) :]:
            lines += round_lines(method, seen.rounds, entry)
        if not self._allocated and "allocation" in record:
            self._allocated = True
            found = record["allocation"]
            for expert in range(found["num_experts"]):
                pairs = zip(found["clients"], found["labels"], strict=True)
                lines.append(
                    f"  expert {expert}: {', '.join(client for client, own in pairs if own == expert)}"
                )
            lines.append(f"  {found['reason']}")
        if not lines and now - self._spoke >= EVERY and doing(seen):
            lines.append(f"  {method} round {seen.round}/{seen.rounds}  {doing(seen)}  {progress(seen)}")
        self._told, self._spoke = seen.done, now if lines else self._spoke
        return lines

    def verdict(self) -> str:
        """See `Page`."""
        seen = self.seen
        if seen.state != "complete":
            raise FedLeaseError(seen.why)
        took = sum(entry["seconds"]["total"] for entry in seen.record["rounds"])
        return f"{label(seen.record)} is done, its rounds took {clock(took)}: fedlease show {seen.folder}"
