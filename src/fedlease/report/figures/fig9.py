"""Figure 9: how many training rows of each label every client has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedlease.core.errors import FedLeaseError
from fedlease.report.canvas import (
    LINE,
    OKABE_ITO,
    PAGE,
    bare,
    filling,
    grow,
    legend_columns,
    name_places,
    new_figure,
    shorten,
)
from fedlease.report.figures.heat import Matrix, heat_map, in_groups
from fedlease.report.figures.registry import Picture
from fedlease.report.records import Entry, Record

MOST_COLORS = len(OKABE_ITO)
"""With more labels than this a client is a column of a heat map, not a stack."""

MOST_ROWS = 40
"""Labels that are named in a heat map; of more every second, third, ... is."""


def draw(entries: Sequence[Entry]) -> Figure:
    """Draw the labels of each client's rows, a panel for the clients that share a set of labels."""
    record = _record(entries)
    panels: dict[tuple[str, ...], list[str]] = {}
    for client in in_groups(record)[0]:
        panels.setdefault(tuple(record["clients"][client]["labels"]), []).append(client)
    widest = max(map(len, panels.values()))
    columns = min(len(panels), 2 if widest * 0.16 <= (PAGE - 1.2) / 2 else 1)
    lines = -(-len(panels) // columns)
    width = PAGE if columns > 1 else min(PAGE, max(3.3, 1.0 + 0.3 * widest))
    inches = (width - 0.6 * columns) / columns
    named = sum(_legend_lines(labels, inches) for labels in panels)
    figure = new_figure(width, lines * max(2.3, 0.6 + LINE * _rows(panels)) + 0.17 * named / columns)
    axes = figure.subplots(lines, columns, squeeze=False).flatten()
    more = []
    for axis, (labels, clients) in zip(axes, panels.items(), strict=False):
        counts = np.array([record["clients"][client]["label_counts"]["train"] for client in clients], float).T
        if len(labels) <= MOST_COLORS:
            _stacks(axis, counts, labels, _legend_columns(labels, inches))
        else:
            _columns(axis, counts, labels)
        more.append(name_places(axis, clients, inches))
    for axis in axes[len(panels) :]:
        axis.axis("off")
    figure.supxlabel("client", fontsize=8.5)
    grow(figure, lines * max(more))
    return figure


def _rows(panels: Iterable[Sequence[str]]) -> int:
    """The lines of text that the heat map with most labels has beside it."""
    return max(min(len(labels), MOST_ROWS) if len(labels) > MOST_COLORS else 0 for labels in panels)


def _record(entries: Sequence[Entry]) -> Record:
    """The first run's record; runs of the same seed must hold the same rows, whatever their method."""
    told = [
        e
        for e in entries
        if all(facts.get("label_counts", {}).get("train") for facts in e.record["clients"].values())
    ]
    if all(facts.get("labels") == [] for entry in entries for facts in entry.record["clients"].values()):
        raise FedLeaseError("it shows labels, and clients whose rows are prompts and answers have none")
    if not told:
        raise FedLeaseError("no record tells how many rows of each label a client has (label_counts)")
    first = told[0]
    for other in told[1:]:
        if other.record["seed"] == first.record["seed"] and _counts(other) != _counts(first):
            raise FedLeaseError(f"{first.folder} and {other.folder} have different rows: name one of them")
    return first.record


def _counts(entry: Entry) -> dict[str, Any]:
    return {client: facts["label_counts"] for client, facts in entry.record["clients"].items()}


def _legend_lines(labels: Sequence[str], inches: float) -> int:
    return -(-len(labels) // _legend_columns(labels, inches)) if len(labels) <= MOST_COLORS else 1


def _legend_columns(labels: Sequence[str], inches: float) -> int:
    return legend_columns([shorten(label, 24) for label in labels], inches, 0.075)


def _stacks(axes: Axes, counts: Matrix, labels: Sequence[str], beside: int) -> None:
    """Stack the rows of each client by label: counts [labels, clients]."""
    below = np.zeros(counts.shape[1])
    for index, (label, rows) in enumerate(zip(labels, counts, strict=True)):
        axes.bar(
            range(len(rows)),
            rows,
            0.8,
            bottom=below,
            **filling(index),
            label=shorten(label, 24),
        )
        below += rows
    axes.set_ylabel("training rows")
    bare(axes)
    axes.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=beside,
        frameon=False,
        borderaxespad=0.2,
    )


def _columns(axes: Axes, counts: Matrix, labels: Sequence[str]) -> None:
    """Colour the rows of each client by label: counts [labels, clients]."""
    image = heat_map(axes, counts, vmin=0)
    every = -(-len(labels) // MOST_ROWS)
    axes.set_yticks(range(0, len(labels), every), [shorten(label, 16) for label in labels[::every]])
    axes.figure.colorbar(image, ax=axes, label="training rows", pad=0.02)


FIGURES = (Picture("9", "training rows of each label, client by client", draw),)
