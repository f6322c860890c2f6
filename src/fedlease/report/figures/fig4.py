"""Figure 4: how many experts suit each client, where a vanilla router takes the k largest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from fedlease.core.errors import FedLeaseError
from fedlease.report.canvas import MARKERS, PAGE, bare, color_of, grow, legend_columns, new_figure
from fedlease.report.figures.heat import in_groups, name_clients
from fedlease.report.figures.registry import Picture
from fedlease.report.records import Entry, score_title
from fedlease.report.series import Series, measure, same_clients, series

BEST = "best k"
SAME = 1e-9
"""Scores nearer than this are equal, and all of them are ringed."""


def draw(entries: Sequence[Entry]) -> Figure:
    """Draw each client's score by k, the best ringed, from runs whose method has a number as ``top_k``."""
    known = [(entry.record["spec"]["method"].get("top_k"), entry) for entry in entries]
    chosen = sorted(((k, entry) for k, entry in known if isinstance(k, int)), key=lambda pair: pair[0])
    if len({k for k, _ in chosen}) < 2:
        raise FedLeaseError("runs with different numbers as method.top_k are needed")
    drawn = series([entry._replace(row=f"k = {k}", section="") for k, entry in chosen])
    same_clients(drawn)
    clients, spans = in_groups(drawn[0].record)
    width = min(PAGE, max(3.3, 0.9 + 0.35 * len(clients)))
    figure = new_figure(width, 3.0)
    axes = figure.subplots()
    _points(figure, drawn, clients)
    grow(figure, name_clients(axes, clients, spans, width - 0.7))
    for span in spans[1:]:
        axes.axvline(span.start - 0.5, color="#BBBBBB", linewidth=0.8)
    axes.set_xlim(-0.5, len(clients) - 0.5)
    axes.set_ylabel(f"{score_title(run.record for one in drawn for run in one.runs)} (%)")
    axes.grid(axis="y", alpha=0.3)
    bare(axes)
    marks, names = axes.get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda index: names[index] == BEST)  # the ring last
    columns = legend_columns(names, width, 0.075)
    figure.legend(
        [marks[index] for index in order],
        [names[index] for index in order],
        loc="outside upper center",
        ncols=columns,
        frameon=False,
    )
    return figure


def _points(figure: Figure, drawn: Sequence[Series], clients: Sequence[str]) -> None:
    """Draw a mark a client and k, beside each other, and a ring round each client's best."""
    (axes,) = figure.axes
    found = [[measure(one, [client]) for client in clients] for one in drawn]
    means = np.array([[value.mean for value in row] for row in found])
    shifts = np.linspace(-0.25, 0.25, len(drawn))
    for index, (one, row, shift) in enumerate(zip(drawn, found, shifts, strict=True)):
        axes.errorbar(
            np.arange(len(clients)) + shift,
            means[index],
            [value.deviation for value in row] if any(value.deviation for value in row) else None,
            color=color_of(index),
            marker=MARKERS[index % len(MARKERS)],
            markersize=4,
            linestyle="none",
            linewidth=0.8,
            label=one.row,
        )
    best = np.fmax.reduce(means)  # nan for a client that was never scored
    ringed = np.argwhere(means >= best - SAME)
    axes.scatter(
        [client + shifts[index] for index, client in ringed],
        [means[index, client] for index, client in ringed],
        s=58,
        facecolors="none",
        edgecolors="black",
        linewidths=0.9,
        label=BEST,
        zorder=4,
    )


FIGURES = (Picture("4", "each client's score by the number k of experts a token uses", draw),)
