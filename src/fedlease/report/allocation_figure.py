"""The pictures of an allocation: silhouette by k, dendrogram, distances (Figures 7a-c of FedLEASE)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fedlease.core.errors import FedLeaseError
from fedlease.report.canvas import OKABE_ITO, new_figure, save_figure

GREY = "#8A8A8A"
MOST_NAMES = 96
"""Above this many clients their names would be unreadable and are left out."""


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
    clients, labels = list(record["clients"]), list(record["labels"])
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
    _silhouettes(place(margin, above, min(width - margin - 1.3, 6.5), top), record)
    order, lines, colors = _tree(np.asarray(record["linkage"], dtype=float), labels)
    _dendrogram(place(margin, 0.75, left, side), lines, colors, len(clients))
    heat = place(margin + left + gap, 0.75, side, side)
    bar = place(margin + left + gap + side + 0.15, 0.75, 0.16, side)
    _distances(heat, bar, record, order)
    return figure


def _silhouettes(axes: Axes, record: Mapping[str, Any]) -> None:
    """Draw S(k) with the chosen k marked, and the line it had to pass for more than one expert."""
    scores = {int(k): float(score) for k, score in record["scores"].items()}
    chosen = int(record["num_experts"])
    axes.plot(
        list(scores), list(scores.values()), "o-", color=OKABE_ITO[0], markersize=5, clip_on=False, zorder=3
    )
    if chosen in scores:
        axes.scatter(
            [chosen],
            [scores[chosen]],
            s=150,
            facecolors="none",
            edgecolors=OKABE_ITO[1],
            linewidths=2,
            zorder=4,
        )
    threshold = record.get("threshold")
    if threshold is not None:
        axes.axhline(threshold, color=GREY, linestyle="--", linewidth=1)
        _note(
            axes,
            "one expert\nat or below",
            (1, threshold),
            ("axes fraction", "data"),
            (4, 0),
            va="center",
            fontsize=8,
        )
    if not scores:
        axes.text(0.5, 0.5, "no silhouette to compare", ha="center", transform=axes.transAxes, color=GREY)
        axes.set_xlim(1, 3)
    else:
        axes.set_xlim(min(scores) - 0.3, max(scores) + 0.3)
    highest = max([*scores.values(), threshold or 0.0, 0.1])
    axes.set_ylim(min([*scores.values(), 0.0]), highest * 1.2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("number of clusters k")
    axes.set_ylabel("mean silhouette S(k)")
    _bare(axes, keep=("left", "bottom"))
    axes.set_title("Silhouette by number of clusters, the chosen one ringed", fontsize=10, loc="left")


def _tree(
    linkage: NDArray[np.float64], labels: Sequence[int]
) -> tuple[list[int], list[list[tuple[float, float]]], list[str]]:
    """Return the clients from top to bottom, the lines (height, row) of the merges, and their colours."""
    clients = len(labels)
    leaves = {client: [client] for client in range(clients)}
    for step, row in enumerate(linkage):
        left, right = sorted((leaves[int(row[0])], leaves[int(row[1])]), key=min)
        leaves[clients + step] = left + right
    order = leaves[2 * clients - 2]
    at = {client: (0.0, float(place)) for place, client in enumerate(order)}
    lines, colors = [], []
    for step, row in enumerate(linkage):
        (near, top), (far, bottom) = at[int(row[0])], at[int(row[1])]
        height = float(row[2])
        lines.append([(near, top), (height, top), (height, bottom), (far, bottom)])
        at[clients + step] = height, (top + bottom) / 2
        experts = {labels[client] for client in leaves[clients + step]}
        colors.append(_color(experts.pop()) if len(experts) == 1 else GREY)
    return order, lines, colors


def _dendrogram(axes: Axes, lines: list[list[tuple[float, float]]], colors: list[str], clients: int) -> None:
    axes.add_collection(LineCollection(lines, colors=colors, linewidths=1.4))
    axes.set_ylim(clients - 0.5, -0.5)
    axes.set_xlim(max(max(x for x, _ in line) for line in lines) * 1.03 or 1.0, 0.0)
    axes.set_yticks([])
    axes.set_xlabel("distance at which clusters merge")
    axes.set_title("Dendrogram (average linkage)", fontsize=10, loc="left")
    _bare(axes, keep=("bottom",))


def _distances(axes: Axes, bar: Axes, record: Mapping[str, Any], order: list[int]) -> None:
    """Draw the distances in the order of the dendrogram, with clients' names and the clusters' borders."""
    distances = np.asarray(record["distances"], dtype=float)[np.ix_(order, order)]
    labels = [record["labels"][client] for client in order]
    apart = distances[~np.eye(len(order), dtype=bool)]
    image = axes.imshow(distances, cmap="cividis", vmin=apart.min(), vmax=apart.max())
    starts = [row for row in range(len(order)) if row == 0 or labels[row] != labels[row - 1]]
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        box = np.array([start, end, end, start, start]) - 0.5, np.array([start, start, end, end, start]) - 0.5
        axes.plot(*box, color="white", linewidth=3.2, clip_on=False)
        axes.plot(*box, color=_color(labels[start]), linewidth=1.8, clip_on=False)
        top = (start + end - 1) / 2, 1
        style = {"color": _color(labels[start]), "weight": "bold", "fontsize": 9, "ha": "center"}
        _note(axes, str(labels[start]), top, ("data", "axes fraction"), (0, 3), **style)
    if len(order) <= MOST_NAMES:
        axes.set_yticks(range(len(order)), [record["clients"][client] for client in order])
        axes.tick_params(axis="y", length=0, labelsize=8 if len(order) <= 80 else 6)
    else:
        axes.set_yticks([])
    axes.set_xticks([])
    axes.set_xlabel("clients, in the order of the rows")
    axes.set_title("Distances between clients, by expert", fontsize=10, loc="left", pad=18)
    what = "B A" if record["distance"] == "product" else "B"
    kind = ", mean taken out" if record["centered"] else ""
    axes.figure.colorbar(image, cax=bar, extend="min", label=f"1 - cosine of {what}{kind}")


def _color(expert: int) -> str:
    return OKABE_ITO[expert % len(OKABE_ITO)]


def _note(
    axes: Axes,
    text: str,
    at: tuple[float, float],
    units: tuple[str, str],
    points: tuple[int, int],
    **style: Any,
) -> None:
    """Write a text so many points away from a place."""
    axes.annotate(text, at, xycoords=units, xytext=points, textcoords="offset points", **style)


def _bare(axes: Axes, keep: Sequence[str]) -> None:
    for name, spine in axes.spines.items():
        spine.set_visible(name in keep)
