"""Figure 7: what led to the experts: silhouettes, distances between clients, the dendrogram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from fedlease.report.allocation_panels import MOST_NAMES, Tree, dendrogram, distances, silhouettes
from fedlease.report.canvas import LETTER, LINE, PAGE, new_figure, shorten
from fedlease.report.figures.registry import Picture
from fedlease.report.records import Entry
from fedlease.report.series import one_run

MOST = 16
"""Letters of a client's name."""


def draw_silhouettes(entries: Sequence[Entry]) -> Figure:
    """Draw the silhouette by the number of clusters, the chosen one ringed."""
    figure = new_figure(4.6, 2.6)
    silhouettes(figure.subplots(), _allocation(entries))
    return figure


def draw_distances(entries: Sequence[Entry]) -> Figure:
    """Draw the distances between clients in the order of the dendrogram, clusters framed."""
    record = _allocation(entries)
    clients = record["clients"]
    beside = 1.4 + LETTER * min(MOST, max(map(len, clients)))  # the names and the scale
    side = min(max(LINE * len(clients), 2.8), PAGE - beside)
    figure = new_figure(side + beside, side + 0.8)
    named = len(clients) * LINE <= side
    distances(figure.subplots(), record, Tree.of(record).order, names=named, most=MOST)
    return figure


def draw_dendrogram(entries: Sequence[Entry]) -> Figure:
    """Draw how clients join, with the distance at which they do."""
    record = _allocation(entries)
    clients, tree = record["clients"], Tree.of(record)
    figure = new_figure(4.6, 0.8 + max(1.6, LINE * min(len(clients), MOST_NAMES)))
    axes = figure.subplots()
    dendrogram(axes, tree)
    if len(clients) <= MOST_NAMES:
        axes.set_yticks(range(len(clients)), [shorten(clients[client], MOST) for client in tree.order])
        axes.yaxis.tick_right()
        axes.tick_params(axis="y", length=0)
    return figure


def _allocation(entries: Sequence[Entry]) -> Mapping[str, Any]:
    entry = one_run(
        entries,
        lambda entry: entry.record.get("allocation") is not None,
        "a run of fedlease that has allocated its experts",
    )
    found: Mapping[str, Any] = entry.record["allocation"]
    return found


FIGURES = (
    Picture("7a", "silhouette by the number of clusters", draw_silhouettes),
    Picture("7b", "distances between clients", draw_distances),
    Picture("7c", "dendrogram of the clients", draw_dendrogram),
)
