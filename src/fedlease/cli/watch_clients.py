"""What `fedlease watch` draws of every client: its expert, what it does, its loss and its score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from statistics import fmean

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedlease.experiments.watching import Seen
from fedlease.report.records import groups, metric_title, scored

NARROW, NAME = 38, 13
"""Width of a block of clients where several stand side by side, and of a name in it."""

HEAD = 1
"""Lines of a table above its rows."""


@dataclass(frozen=True)
class _Known:
    """What is known of clients: expert, score in percent, its change since the scored round before, loss."""

    experts: Mapping[str, int]
    scores: Mapping[str, float]
    before: Mapping[str, float]
    losses: Mapping[str, float]


def clients_table(seen: Seen, width: int, room: int | None) -> RenderableType:
    """A line for every client; in several blocks, or a line for every group, where there is no room.

    Args:
        seen: the run.
        width: of the terminal.
        room: lines that there are; None for as many as it takes.
    """
    known, clients = _known(seen), list(seen.record["clients"])
    if room is None or len(clients) <= room - HEAD:
        return _wide(seen, known, clients)
    blocks = max((width + 2) // (NARROW + 2), 1)
    lines = ceil(len(clients) / blocks)
    if lines <= room - HEAD:
        grid = Table.grid(padding=(0, 2, 0, 0))
        parts = [clients[start : start + lines] for start in range(0, len(clients), lines)]
        grid.add_row(*(_narrow(seen, known, part) for part in parts))
        return grid
    return _by_group(seen, known, room)


def _known(seen: Seen) -> _Known:
    record, rounds = seen.record, scored(seen.record)
    allocation = record.get("allocation")
    experts = dict(zip(allocation["clients"], allocation["labels"], strict=True)) if allocation else {}
    told = {client: loss for entry in record["rounds"][-1:] for client, loss in entry["loss"].items()}
    doing = seen.now.clients if seen.now is not None else {}
    told |= {client: one.loss for client, one in doing.items() if one.loss is not None}
    return _Known(
        experts, rounds[-1].scores if rounds else {}, rounds[-2].scores if len(rounds) > 1 else {}, told
    )


def _wide(seen: Seen, known: _Known, clients: list[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("client", no_wrap=True)
    table.add_column("expert", justify="right")
    table.add_column("now", no_wrap=True, min_width=12)
    for column in ("loss", f"{metric_title(seen.record)} %", "change"):
        table.add_column(column, justify="right", no_wrap=True)
    for client in clients:
        score, before = known.scores.get(client), known.before.get(client)
        table.add_row(
            short(client, 2 * NAME),
            str(known.experts.get(client, "-")),
            _now(seen, client),
            _number(known.losses.get(client), ".3f"),
            _number(score, ".1f"),
            _number(None if score is None or before is None else score - before, "+.1f"),
            style=_style(seen, client),
        )
    return table


def _narrow(seen: Seen, known: _Known, clients: list[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim", width=NARROW)
    table.add_column("client", no_wrap=True, ratio=1)
    for column, least in (("exp", 3), ("now", 5), ("loss", 5), ("%", 5)):
        table.add_column(column, justify="right", no_wrap=True, min_width=least)
    for client in clients:
        table.add_row(
            short(client, NAME),
            str(known.experts.get(client, "-")),
            _now(seen, client).rpartition(" ")[2],
            _number(known.losses.get(client), ".3f"),
            _number(known.scores.get(client), ".1f"),
            style=_style(seen, client),
        )
    return table


def _by_group(seen: Seen, known: _Known, room: int) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("clients", no_wrap=True, overflow="ellipsis")
    for column in (f"{metric_title(seen.record)} %", "worst", "best", "loss"):
        table.add_column(column, justify="right", no_wrap=True)
    there = list(groups(seen.record).items())
    shown = there if len(there) <= room - HEAD else there[: max(room - HEAD - 1, 0)]
    for group, clients in shown:
        scores = [known.scores[client] for client in clients if client in known.scores]
        losses = [known.losses[client] for client in clients if client in known.losses]
        told = [_number(of(scores), ".1f") if scores else "-" for of in (fmean, min, max)]
        table.add_row(f"{group} ({len(clients)})", *told, f"{fmean(losses):.3f}" if losses else "-")
    if len(shown) == len(there):
        return table
    return Group(
        table, Text(f"and {len(there) - len(shown)} groups more: make the window higher", style="dim")
    )


def short(name: str, most: int) -> str:
    """A name in so many letters, cut in the middle: what tells clients apart is at the end."""
    return name if len(name) <= most else f"{name[: most - 6]}…{name[-5:]}"


def _now(seen: Seen, client: str) -> str:
    """``train 32%``, ``score done``, or nothing where the client has not begun in this round."""
    doing = seen.now.clients.get(client) if seen.now is not None else None
    if doing is None:
        return ""
    done = "done" if doing.done >= doing.total else f"{100 * doing.done / doing.total:.0f}%"
    return f"{doing.purpose} {done}"


def _style(seen: Seen, client: str) -> str:
    return "bold" if seen.now is not None and seen.now.now == client else ""


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
