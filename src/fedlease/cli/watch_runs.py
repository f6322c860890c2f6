"""Several runs watched at once: those of a sweep, or all in a folder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from fedlease.cli.live import clock
from fedlease.core.errors import FedLeaseError
from fedlease.experiments.watching import Seen, Watched
from fedlease.report.records import metric_title, scored

GRACE = 60.0
"""Seconds in which none goes on after which they count as left: a sweep's next run takes a while to start."""

EVERY = 60.0
"""Seconds between plain lines while nothing ends."""

ORDER = ("going on", "stopped", "diverged", "complete", "waiting")
"""How runs can be, in the order they are shown."""


class Runs:
    """Several runs, as a `Page`.

    Args:
        title: of all.
        folders: of every run, by what it is called; a run that has not begun has none yet.
    """

    def __init__(self, title: str, folders: Mapping[str, Path]) -> None:
        self._title, self._folders = title, folders
        self._watched: dict[str, Watched] = {}
        self._seen: dict[str, Seen] = {}
        self._told: dict[str, str] = {}
        self._active, self._spoke = time.monotonic(), -EVERY

    def look(self) -> bool:
        """See `Page`."""
        for name, folder in self._folders.items():
            if name not in self._watched and (folder / "spec.json").is_file():
                self._watched[name] = Watched(folder)
            if name in self._watched and self.how(name) not in ("complete", "diverged"):
                self._seen[name] = self._watched[name].look(retry=False)
        states = [self.how(name) for name in self._folders]
        if "going on" in states:
            self._active = time.monotonic()
        open_ = any(state not in ("complete", "diverged") for state in states)
        return open_ and time.monotonic() - self._active < GRACE

    def how(self, name: str) -> str:
        """How a run is, in one of the words of `ORDER`."""
        seen = self._seen.get(name)
        if seen is None:
            return "waiting"
        if seen.state == "running":
            return "going on"
        return "diverged" if seen.diverged else seen.state

    def counts(self) -> str:
        """How many are how."""
        states = [self.how(name) for name in self._folders]
        said = [f"{states.count(one)} {one}" for one in ORDER if one in states]
        return f"{len(states)} runs: {', '.join(said)}"

    def view(self, height: int | None) -> RenderableType:
        """See `Page`."""
        return _View(self, height)

    def rows(self) -> list[tuple[str, str, Seen | None]]:
        """Name, how it is, and what is seen of it, as they are shown."""
        found = [(name, self.how(name), self._seen.get(name)) for name in self._folders]
        return sorted(found, key=lambda row: ORDER.index(row[1]))

    @property
    def title(self) -> str:
        """Of all."""
        return self._title

    def lines(self) -> list[str]:
        """See `Page`."""
        now = time.monotonic()
        lines = []
        for name, how, seen in self.rows():
            if how in ("complete", "diverged") and self._told.get(name) != how and seen is not None:
                lines.append(f"  {name}: {how}{_score(seen, ', ')}")
            self._told[name] = how
        if lines or now - self._spoke >= EVERY:
            going = [
                f"{name} {_rounds(seen)}" for name, how, seen in self.rows() if how == "going on" and seen
            ]
            lines.append(f"{self.counts()}{'; ' if going else ''}{', '.join(going)}")
            self._spoke = now
        return lines

    def verdict(self) -> str:
        """See `Page`."""
        left = [name for name in self._folders if self.how(name) not in ("complete", "diverged")]
        if left:
            raise FedLeaseError(
                f"{self._title}: nothing is going on, and {len(left)} of {len(self._folders)} runs are not "
                "complete; the same 'fedlease sweep', or 'fedlease resume DIR' for one run, goes on"
            )
        return self.counts()


class _View:
    def __init__(self, runs: Runs, height: int | None) -> None:
        self._runs, self._height = runs, height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        runs, rows = self._runs, self._runs.rows()
        above = [Text(runs.title, style="bold"), Text(runs.counts()), Text()]
        room = (
            len(rows) if self._height is None else self._height - 5
        )  # its lines, the head, what is left out
        shown = rows if len(rows) <= room else rows[: max(room, 0)]
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("run", no_wrap=True, overflow="ellipsis", max_width=max(options.max_width - 44, 16))
        for column, least in (("", 9), ("rounds", 7), ("left", 6), ("score", 14)):
            table.add_column(column, justify="left" if column in ("", "score") else "right", min_width=least)
        for name, how, seen in shown:
            left = clock(seen.left) if seen is not None and seen.left is not None else ""
            told = ("", "") if seen is None else (_rounds(seen), _score(seen))
            table.add_row(name, how, told[0], left, told[1], style="bold" if how == "going on" else "")
        rest = len(rows) - len(shown)
        yield Group(*above, table, *([Text(f"and {rest} more", style="dim")] if rest else []))


def _rounds(seen: Seen) -> str:
    return f"{seen.done}/{seen.rounds}"


def _score(seen: Seen, before: str = "") -> str:
    """The mean score of the last scored round."""
    rounds = scored(seen.record)
    if not rounds:
        return ""
    return f"{before}{metric_title(seen.record)} {fmean(rounds[-1].scores.values()):.1f}"
