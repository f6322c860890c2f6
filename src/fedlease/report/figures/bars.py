"""Grouped bars of scores: what Figures 2, 6a and 6b share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import floor, isnan

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from fedlease.report.canvas import PAGE, bare, filling, grow, legend_columns, name_places, new_figure
from fedlease.report.records import score_title
from fedlease.report.series import Measure, Series, measure, same_clients

AVERAGE = "average"
BAR = 0.2
"""Inches a bar is wide where the page allows it."""
FEW_CLIENTS = 8
"""Up to so many clients each has bars of its own, where that is asked for."""


def bars_figure(drawn: Sequence[Series], by_client: bool = False) -> Figure:
    """Draw the mean score of each group of clients and of all as grouped bars, a row of runs a colour.

    Sections become panels. Where there are several seeds, a line on a bar shows the sample deviation.

    Args:
        drawn: the runs; those of one section have the same clients.
        by_client: draw clients instead of groups where there are few of them.

    Raises:
        FedLeaseError: no client is scored yet, or clients differ within a section.
    """
    rows = list(dict.fromkeys(one.row for one in drawn))
    panels: dict[str, dict[str, list[tuple[str, Measure]]]] = {}
    for section in dict.fromkeys(one.section for one in drawn):
        inside = [one for one in drawn if one.section == section]
        panels[section] = {
            name: [(one.row, measure(one, clients)) for one in inside]
            for name, clients in _places(inside, by_client).items()
        }
    needed = max(BAR * (len(places) * (len(rows) + 1) + 1) for places in panels.values())
    columns = max(1, min(len(panels), int((PAGE - 0.6) / needed)))
    lines = -(-len(panels) // columns)
    width = min(PAGE, max(3.3, columns * needed + 0.6))
    figure = new_figure(width, 2.4 * lines + 0.5)
    ratios = [max(len(places), 2) for places in panels.values()] if lines == 1 else [1] * columns
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True, width_ratios=ratios).flatten()
    found = [value for places in panels.values() for bars in places.values() for _, value in bars]
    lowest, highest = _floor(found), max((m + d for m, d in found if not isnan(m)), default=1.0)
    more = []
    for index, (axis, (section, places)) in enumerate(zip(axes, panels.items(), strict=False)):
        inches = (width - 0.6) * ratios[index % columns] / sum(ratios)
        more.append(_panel(axis, places, rows, inches))
        axis.set_title(section)
        axis.set_ylim(lowest, highest + 0.2 * (highest - lowest))  # room for the numbers
        axis.set_yticks([tick for tick in axis.get_yticks() if lowest <= tick <= 100])
    for axis in axes[len(panels) :]:
        axis.axis("off")
    grow(figure, lines * max(more))
    figure.supxlabel("client" if _of_clients(drawn, panels.values()) else "group of clients", fontsize=8.5)
    name = score_title(run.record for one in drawn for run in one.runs)
    figure.supylabel(f"{name} (%)" + (f", from {lowest}" if lowest else ""), fontsize=8.5)
    _legend(figure, rows, width)
    return figure


def _places(inside: Sequence[Series], by_client: bool) -> dict[str, list[str] | None]:
    """The places on the x axis of a panel with their clients; None stands for all."""
    members = same_clients(inside)
    clients = [client for group in members.values() for client in group]
    if by_client and len(clients) <= FEW_CLIENTS:
        return {**{client: [client] for client in clients}, AVERAGE: None}
    return {**members, AVERAGE: None} if len(members) > 1 else dict.fromkeys(members)


def _panel(
    axes: Axes, places: Mapping[str, Sequence[tuple[str, Measure]]], rows: Sequence[str], inches: float
) -> float:
    """Draw the bars of each place; return the inches its names need beyond a line."""
    share = 1 / (len(rows) + 1)  # of the way from one place to the next
    wide = share * inches / len(places)
    for place, bars in enumerate(places.values()):
        for row, (mean, deviation) in bars:
            index = rows.index(row)
            at = place + (index - (len(rows) - 1) / 2) * share
            axes.bar(at, mean, share, **filling(index))
            if deviation:
                axes.errorbar(at, mean, deviation, color="black", linewidth=0.9, capsize=1.5)
            if wide >= 0.12 and not isnan(mean):
                axes.annotate(
                    f"{mean:.1f}",
                    (at, mean + deviation),
                    (0, 2),
                    textcoords="offset points",
                    ha="center",
                    va="bottom",
                    rotation=0 if wide > 0.32 else 90,
                    fontsize=8,
                )
    axes.margins(x=0.02)
    if len(places) > 1:
        axes.axvline(len(places) - 1.5, color="#CCCCCC", linewidth=0.8)  # before the average
    bare(axes)
    return name_places(axes, list(places), inches)


def _of_clients(drawn: Sequence[Series], panels: Iterable[Mapping[str, object]]) -> bool:
    clients = {client for one in drawn for client in one.record["clients"]}
    return all(set(places) <= clients | {AVERAGE} for places in panels)


def _floor(values: Sequence[Measure]) -> int:
    """Where the axis begins: at 0, or at a ten well below all bars that are far from 0."""
    lows = [mean - deviation for mean, deviation in values if not isnan(mean)]
    lowest = float(np.min(lows)) if lows else 0.0
    return 0 if lowest < 30 else 10 * floor((lowest - 5) / 10)


def _legend(figure: Figure, rows: Sequence[str], width: float) -> None:
    """Name the colours above the panels; some rows may be missing in the first one."""
    boxes = [Patch(**filling(index)) for index in range(len(rows))]
    columns = legend_columns(rows, width, 0.075)
    figure.legend(boxes, rows, loc="outside upper center", ncols=columns, frameon=False)
