"""What `fedlease watch` draws of a run."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fedlease.cli.live import clock, left_out
from fedlease.cli.watch_clients import clients_table, short
from fedlease.experiments.watching import Seen
from fedlease.report.records import label, metric_title, scored
from fedlease.report.summary import allocation_text

ROUNDS, FEWER, LOW = 8, 3, 34
"""The last rounds are told one by one, fewer in windows below so many lines; the means of all in a line."""

LEFT_OUT = 4
"""Who was left out last is told so many times; in a window once."""

SILENT = 30.0
"""Seconds without a word from the run after which that is said."""

WIDE = 100
"""Columns from which clients' names are told in full."""

BARS = "▁▂▃▄▅▆▇█"


class View:
    """A run as it looks now.

    Args:
        seen: the run.
        height: lines that there is room for; None for all.
    """

    def __init__(self, seen: Seen, height: int | None = None) -> None:
        self._seen, self._height = seen, height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it; the clients get the lines that the rest leaves."""
        seen, width, limited = self._seen, options.max_width, self._height is not None
        most = FEWER if self._height is not None and self._height < LOW else ROUNDS
        above = [*_head(seen, width), *_rounds(seen, width, most, options.ascii_only)]
        below = [*_allocation(seen, limited), *_left_out(seen, limited)]
        room = None
        if self._height is not None:
            used = sum(len(console.render_lines(piece, options)) for piece in (*above, *below))
            room = self._height - used
        yield Group(*above, clients_table(seen, width, room), *below)


def _head(seen: Seen, width: int) -> list[RenderableType]:
    record = seen.record
    spec = record["spec"]
    name = f"{spec['name']}: {label(record)}, {len(record['clients'])} clients, seed {spec['seed']}"
    line = Table.grid(expand=True)
    line.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    line.add_column(justify="right", no_wrap=True)
    line.add_row(Text(name, style="bold"), Text(state(seen), style=STYLES[seen.state]))
    bar = Table.grid(padding=(0, 2, 0, 0))
    bar.add_column(width=min(36, width // 2))
    bar.add_column()
    bar.add_row(ProgressBar(total=1.0, completed=seen.share), Text(progress(seen)))
    now = [Text(doing(seen), no_wrap=True, overflow="ellipsis")] if seen.state == "running" else []
    return [line, bar, *now, Text()]


STYLES = {"running": "green", "complete": "bold green", "stopped": "bold red"}


def state(seen: Seen) -> str:
    """How the run is, in a few words."""
    if seen.state == "complete":
        return f"complete after {seen.rounds} rounds"
    if seen.state == "stopped":
        return f"stopped after {seen.done} of {seen.rounds} rounds"
    if seen.done == seen.rounds:
        return f"all {seen.rounds} rounds done, writing adapters"
    return f"round {seen.round} of {seen.rounds}"


def progress(seen: Seen) -> str:
    """How much is done, how fast, and how long the rest takes."""
    said = [f"{100 * seen.share:.0f} %"]
    if seen.state == "running" and seen.beat is not None:
        said.append(f"{clock(seen.beat.seconds)} so far")
    if seen.left is not None:
        said.append(f"{clock(seen.left)} left")
    if seen.state == "running" and seen.speed is not None:
        said.append(f"{seen.speed:.0f} rows/s")
    return "  ".join(said)


def doing(seen: Seen) -> str:
    """What goes on at this moment."""
    beat = seen.now
    if beat is None or beat.now is None:
        return ""
    one = beat.clients[beat.now]
    loss = "" if one.loss is None else f", loss {one.loss:.3f}"
    silent = f"; no word for {clock(seen.silent)}" if seen.silent > SILENT else ""
    return f"{beat.now}: {one.purpose}, {one.done} of {one.total} rows{loss}{silent}"


def _rounds(seen: Seen, width: int, most: int, ascii_only: bool) -> list[RenderableType]:
    """The last rounds, one a line, and the mean score of all of them."""
    record, name = seen.record, metric_title(seen.record)
    if not record["rounds"]:
        return [Text("no round is done yet", style="dim"), Text()]
    scores = {one.round: one.scores for one in scored(record)}
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("round", f"{name} %", "worst", "best", "loss", "seconds"):
        table.add_column(column, justify="left" if column in ("worst", "best") else "right", no_wrap=True)
    for entry in record["rounds"][-most:]:
        loss, total = entry["loss"], entry["seconds"]["total"]
        table.add_row(
            str(entry["round"]),
            *_three(scores.get(entry["round"], {}), 14 if width < WIDE else 28),
            f"{fmean(loss.values()):.3f}" if loss else "-",
            f"{total:.1f}",
        )
    pieces: list[RenderableType] = [table]
    means = [fmean(found.values()) for found in scores.values()]
    if len(means) > 1 and not ascii_only:
        room = max(width - len(name) - 30, 8)
        pieces.append(
            Text(f"{name} by round  {spark(means[-room:])}  {means[0]:.1f} to {means[-1]:.1f}", no_wrap=True)
        )
    return [*pieces, Text()]


def _three(scores: Mapping[str, float], most: int) -> tuple[str, str, str]:
    """The mean, and who is worst and best, in so many letters; the first by name of equals."""
    if not scores:
        return "-", "-", "-"
    worst, best = min(scores, key=lambda c: (scores[c], c)), min(scores, key=lambda c: (-scores[c], c))
    told = [f"{scores[client]:.1f} {short(client, most)}" for client in (worst, best)]
    return f"{fmean(scores.values()):.1f}", told[0], told[1]


def spark(values: list[float]) -> str:
    """A bar for each value, from the lowest to the highest of them."""
    low, high = min(values), max(values)
    steps = [(value - low) / (high - low) if high > low else 0.0 for value in values]
    return "".join(BARS[round(step * (len(BARS) - 1))] for step in steps)


def _allocation(seen: Seen, limited: bool) -> list[RenderableType]:
    """Who shares an expert, and why; in a window only how many do: the clients' lines tell which."""
    if not limited or "allocation" not in seen.record:
        found = allocation_text(seen.record)
        return [] if found is None else [Text(), found]
    found = seen.record["allocation"]
    sizes = ", ".join(str(found["labels"].count(expert)) for expert in range(found["num_experts"]))
    said = f"{found['reason']}; clients of each: {sizes}"
    return [Text(), Text(said, no_wrap=True, overflow="ellipsis")]


def _left_out(seen: Seen, limited: bool) -> list[RenderableType]:
    """Who was left out, the last ones."""
    lines = [
        f"round {entry['round']}: {left_out(one)}"
        for entry in seen.record["rounds"]
        for one in entry.get("left_out", ())
    ]
    lines += [f"the end: {left_out(one)}" for one in seen.record.get("left_out", ())]
    if not lines:
        return []
    if limited:
        more = f" (the last of {len(lines)})" if len(lines) > 1 else ""
        return [Text(f"Left out{more} in {lines[-1]}", no_wrap=True, overflow="ellipsis")]
    more = f", the last of {len(lines)}" if len(lines) > LEFT_OUT else ""
    return [Text(), Text(f"Left out{more}", style="bold"), *(Text(f"  {one}") for one in lines[-LEFT_OUT:])]
