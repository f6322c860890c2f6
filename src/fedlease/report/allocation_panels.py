"""The panels of an allocation: silhouette by k, dendrogram, distances (Figures 7a-c of FedLEASE)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator

from fedlease.report.canvas import GREY, OKABE_ITO, bare, color_of, shorten

MOST_NAMES = 96
"""Above this many clients their names would be unreadable and are left out."""


def silhouettes(axes: Axes, record: Mapping[str, Any]) -> None:
    """Draw S(k) with the chosen k ringed, and the line at or below which it is weak."""
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
            "weak at\nor below",
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
    bare(axes)
    axes.set_title("Silhouette by number of clusters, the chosen one ringed", fontsize=10, loc="left")


class Tree(NamedTuple):
    """A dendrogram ready to be drawn.

    Attributes:
        order: the clients from top to bottom, by their index.
        lines: of each merge, as points (height, row).
        experts: whose clients each line joins; None where experts join.
    """

    order: list[int]
    lines: list[list[tuple[float, float]]]
    experts: list[int | None]

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Tree:
        """Return the dendrogram of an allocation's record."""
        linkage, labels = np.asarray(record["linkage"], dtype=float), list(record["labels"])
        clients = len(labels)
        leaves = {client: [client] for client in range(clients)}
        for step, row in enumerate(linkage):
            left, right = sorted((leaves[int(row[0])], leaves[int(row[1])]), key=min)
            leaves[clients + step] = left + right
        order = leaves[2 * clients - 2]
        at = {client: (0.0, float(place)) for place, client in enumerate(order)}
        lines: list[list[tuple[float, float]]] = []
        owners: list[int | None] = []
        for step, row in enumerate(linkage):
            (near, top), (far, bottom) = at[int(row[0])], at[int(row[1])]
            height = float(row[2])
            lines.append([(near, top), (height, top), (height, bottom), (far, bottom)])
            at[clients + step] = height, (top + bottom) / 2
            experts = {labels[client] for client in leaves[clients + step]}
            owners.append(int(experts.pop()) if len(experts) == 1 else None)
        return cls(order, lines, owners)


def dendrogram(axes: Axes, tree: Tree) -> None:
    """Draw how clients join, the leaves at the right from top to bottom; rows are not named."""
    colors = [GREY if expert is None else color_of(expert) for expert in tree.experts]
    axes.add_collection(LineCollection(tree.lines, colors=colors, linewidths=1.4))
    axes.set_ylim(len(tree.order) - 0.5, -0.5)
    axes.set_xlim(max(max(x for x, _ in line) for line in tree.lines) * 1.03 or 1.0, 0.0)
    axes.set_yticks([])
    axes.set_xlabel("distance at which clusters merge")
    axes.set_title("Dendrogram (average linkage)", fontsize=10, loc="left")
    bare(axes, keep=("bottom",))


def distances(
    axes: Axes,
    record: Mapping[str, Any],
    order: Sequence[int],
    *,
    names: bool = True,
    most: int | None = None,
    bar: Axes | None = None,
) -> None:
    """Draw the distances in the order of the dendrogram, the clusters framed.

    Args:
        axes: where the heat map goes.
        record: of an allocation.
        order: of the clients, see `Tree`.
        names: whether the rows are named.
        most: letters of a name; None leaves names as they are.
        bar: where the scale goes; None takes room from the heat map.
    """
    if record["distances"] is None:
        for empty in (axes, bar):
            if empty is not None:
                empty.set_axis_off()
        axes.text(0.5, 0.5, "of so many clients\nthe distances are not kept", ha="center", va="center")
        return
    values = np.asarray(record["distances"], dtype=float)[np.ix_(order, order)]
    labels = [record["labels"][client] for client in order]
    apart = values[~np.eye(len(order), dtype=bool)]
    image = axes.imshow(values, cmap="cividis", vmin=apart.min(), vmax=apart.max())
    starts = [row for row in range(len(order)) if row == 0 or labels[row] != labels[row - 1]]
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        box = np.array([start, end, end, start, start]) - 0.5, np.array([start, start, end, end, start]) - 0.5
        axes.plot(*box, color="white", linewidth=3.2, clip_on=False)
        axes.plot(*box, color=color_of(labels[start]), linewidth=1.8, clip_on=False)
        top = (start + end - 1) / 2, 1
        style = {"color": color_of(labels[start]), "weight": "bold", "fontsize": 9, "ha": "center"}
        _note(axes, str(labels[start]), top, ("data", "axes fraction"), (0, 3), **style)
    if names:
        clients = [record["clients"][client] for client in order]
        axes.set_yticks(range(len(order)), [shorten(name, most or len(name)) for name in clients])
        axes.tick_params(axis="y", length=0, labelsize=8 if len(order) <= 80 else 6)
    else:
        axes.set_yticks([])
    axes.set_xticks([])
    axes.set_xlabel("clients, in the order of the rows")
    axes.set_title("Distances between clients, by expert", fontsize=10, loc="left", pad=18)
    what = "B A" if record["distance"] == "product" else "B"
    kind = ", mean taken out" if record["centered"] else ""
    place: dict[str, Any] = {"ax": axes, "shrink": 0.9} if bar is None else {"cax": bar}
    axes.figure.colorbar(image, **place, extend="min", label=f"1 - cosine of {what}{kind}")


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
