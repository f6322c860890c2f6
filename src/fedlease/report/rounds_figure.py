"""The main metric by round: one panel for each group of clients and one for all, one line a method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any, TypeAlias

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fedlease.core.errors import FedLeaseError
from fedlease.report.canvas import MARKERS, color_of, legend_columns, new_figure, save_figure
from fedlease.report.records import Record, average, groups, label, score_title, scored

ALL = "all clients"
MOST_MARKERS = 20
TITLE_WIDTH = 32
"""Letters of a panel's title in one line."""

Curve: TypeAlias = tuple[list[int], list[float]]
"""Rounds and the values after them."""


def rounds_figure(records: Sequence[Record], path: Path) -> None:
    """Draw the mean score of each group of clients after every scored round as a PNG.

    Args:
        records: runs with the same clients and the same metric, a method each.
        path: the file to write, atomically.

    Raises:
        FedLeaseError: no client is scored yet, or the place cannot be written.
    """
    names = [*groups(records[0]), ALL]
    if len(names) == 2:
        names.remove(ALL)  # it would be the same panel again
    curves = {name: [_curve(record, name) for record in records] for name in names}
    scored_rounds = [round for drawn in curves.values() for rounds, _ in drawn for round in rounds]
    if not scored_rounds:
        raise FedLeaseError("there is no picture of the rounds: no client is scored yet")
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    width = max(3.2 * columns, 4.8)
    labels = [label(record) for record in records]
    beside = legend_columns(labels, width)
    figure = new_figure(width, 2.5 * rows + 0.4 + 0.2 * -(-len(labels) // beside))
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flatten()
    for axis, name in zip(axes, names, strict=False):
        _panel(axis, name, records, curves[name])
    first, last = min(scored_rounds), max(scored_rounds)
    beyond = max(0.5, 0.03 * (last - first))
    axes[0].set_xlim(first - beyond, last + beyond)
    for axis in axes[len(names) :]:
        axis.axis("off")
    for axis in axes[max(0, len(names) - columns) : len(names)]:  # the lowest panel of each column
        axis.xaxis.set_tick_params(labelbottom=True)
    figure.supxlabel("communication round", fontsize=10)
    figure.supylabel(f"mean {score_title(records)} (%)", fontsize=10)
    figure.legend(axes[0].lines, labels, loc="outside upper center", ncols=beside, frameon=False)
    save_figure(figure, path)


def _panel(axis: Axes, name: str, records: Sequence[Record], curves: Sequence[Curve]) -> None:
    for index, (record, (rounds, values)) in enumerate(zip(records, curves, strict=True)):
        color, marker = color_of(index), MARKERS[index % len(MARKERS)]
        every = max(1, len(rounds) // MOST_MARKERS)
        style: dict[str, Any] = {"color": color, "marker": marker, "markersize": 4, "markevery": every}
        axis.plot(rounds, values, label=label(record), **style)
    axis.set_title(fill(name, TITLE_WIDTH), fontsize=10)
    axis.grid(alpha=0.3)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1))


def _curve(record: Record, name: str) -> Curve:
    """The rounds in which a client of the group was scored, and the means over those that were."""
    members = list(record["clients"]) if name == ALL else groups(record)[name]
    points = [(found.round, average(found.scores, members)) for found in scored(record)]
    known = [(round, value) for round, value in points if value is not None]
    return [round for round, _ in known], [value for _, value in known]
