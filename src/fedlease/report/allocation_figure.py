"""The pictures of an allocation: silhouette by k, dendrogram, distances (Figures 7a-c of FedLEASE)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedlease.core.errors import FedLeaseError
from fedlease.report.allocation_panels import MOST_NAMES, Tree, dendrogram, distances, silhouettes
from fedlease.report.canvas import new_figure, save_figure


def allocation_figure(allocation_json: Mapping[str, Any], path: Path) -> None:
    """Draw an allocation as one PNG: silhouette by k, dendrogram and distances in the dendrogram's order.

    Args:
        allocation_json: what `Allocation.to_json` returns, as it stands in a record.
        path: the PNG to write; a file already there is replaced in one step.

    Raises:
        FedLeaseError: not the record of an allocation, or a place that cannot be written.
    """
    try:
        figure = _figure(allocation_json)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise FedLeaseError(f"not the record of an allocation: {type(error).__name__} {error}") from error
    save_figure(figure, Path(path))


def _figure(record: Mapping[str, Any]) -> Figure:
    clients = list(record["clients"])
    side = min(max(0.17 * len(clients), 3.2), 16.0)  # inches of the heat map
    names = 0.075 * max(map(len, clients)) if len(clients) <= MOST_NAMES else 0.0
    left = 2.6 + 0.15 * side  # of the dendrogram
    margin, gap, top = 0.75, 0.3 + min(names, 3.0), 2.3
    width, height = margin + left + gap + side + 1.3, 0.75 + side + 0.95 + top + 0.75
    figure = new_figure(width, height, layout=None)

    def place(x: float, y: float, w: float, h: float) -> Axes:
        return figure.add_axes((x / width, y / height, w / width, h / height))

    figure.suptitle(
        record["reason"], x=margin / width, y=1 - 0.15 / height, ha="left", va="top", fontsize=10, wrap=True
    )
    above = 0.75 + side + 0.95
    silhouettes(place(margin, above, min(width - margin - 1.3, 6.5), top), record)
    tree = Tree.of(record)
    dendrogram(place(margin, 0.75, left, side), tree)
    heat = place(margin + left + gap, 0.75, side, side)
    bar = place(margin + left + gap + side + 0.15, 0.75, 0.16, side)
    distances(heat, record, tree.order, names=len(clients) <= MOST_NAMES, bar=bar)
    return figure
