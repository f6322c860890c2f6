"""The dendrogram of clients beside the map of their distances, row by row the same client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedlease.report.allocation_panels import Tree
from fedlease.report.canvas import shorten
from fedlease.report.page.charts.frame import COLORS, LETTER, Scale, label, path, ticks
from fedlease.report.page.charts.heat import NAME, Matrix, cell_size, cells
from fedlease.report.page.markup import Html, tag
from fedlease.report.page.parts import drawing

TREE = 130.0
"""Pixels of the dendrogram."""

MOST_CELLS = 160
"""Rows of the map; above that neighbouring clients share one."""


class Ends(NamedTuple):
    """The smallest and largest distance between two clients."""

    low: float
    high: float


def ends(allocation: Mapping[str, Any]) -> Ends:
    """Return the range of the distances between different clients."""
    values = np.asarray(allocation["distances"], dtype=float)
    apart = values[~np.eye(len(values), dtype=bool)]
    return Ends(float(apart.min()), float(apart.max()))


def tree_and_map(allocation: Mapping[str, Any], alt: str) -> Html:
    """Draw how clients join, their names, and their distances in the same order, experts framed."""
    tree = Tree.of(allocation)
    clients = [allocation["clients"][client] for client in tree.order]
    labels = [int(allocation["labels"][client]) for client in tree.order]
    size = cell_size(len(clients))
    named = len(clients) <= 96
    left = 4 + TREE
    start = left + (LETTER * max(len(shorten(name, NAME)) for name in clients) + 12 if named else 6)
    top, side = 22.0, size * len(clients)
    pieces = [_dendrogram(tree, size, top, left), _axis(tree, left, top + side)]
    if named:
        pieces += [
            label(start - 6, top + row * size + size / 2 + 4, shorten(name, NAME), "end")
            for row, name in enumerate(clients)
        ]
    pieces.append(_map(allocation, tree.order, start, top, side))
    pieces.append(_frames(labels, size, start, top))
    return drawing(start + side + 6, top + side + 40, alt, pieces)


def _dendrogram(tree: Tree, size: float, top: float, left: float) -> Html:
    scale = _heights(tree, left)
    drawn: dict[int | None, list[str]] = {}
    for points, expert in zip(tree.lines, tree.experts, strict=True):
        at = [(scale(height), top + (row + 0.5) * size) for height, row in points]
        drawn.setdefault(expert, []).append(path(at))
    return tag(
        "g",
        [
            tag(
                "path",
                d="".join(paths),
                class_="line thin " + ("join" if expert is None else f"s{expert % COLORS}"),
            )
            for expert, paths in drawn.items()
        ],
    )


def _heights(tree: Tree, left: float) -> Scale:
    highest = max(x for line in tree.lines for x, _ in line) or 1.0
    return Scale(0.0, highest, left - 2, 6.0)


def _axis(tree: Tree, left: float, bottom: float) -> Html:
    scale = _heights(tree, left)
    found = ticks(0.0, scale.high, 3)
    pieces = [label(scale(value), bottom + 16, f"{value:g}") for value in found]
    return tag("g", pieces, label(left / 2, bottom + 32, "merged at distance"))


def _map(allocation: Mapping[str, Any], order: Sequence[int], x: float, y: float, side: float) -> Html:
    values = np.asarray(allocation["distances"], dtype=float)[np.ix_(order, order)]
    low, high = ends(allocation)
    values = together(values, MOST_CELLS)
    size = side / len(values)
    return cells(values, low, high, x, y, size, size)


def together(values: Matrix, most: int) -> Matrix:
    """Average neighbouring rows and columns of a square matrix until there are at most so many."""
    rows = len(values)
    if rows <= most:
        return values
    edges = np.linspace(0, rows, most + 1).round().astype(int)
    counts = np.diff(edges)
    sums = np.add.reduceat(np.add.reduceat(values, edges[:-1], axis=0), edges[:-1], axis=1)
    return np.asarray(sums / np.outer(counts, counts))


def _frames(labels: Sequence[int], size: float, x: float, y: float) -> Html:
    """A frame around the clients of each expert, with its number above."""
    starts = [row for row in range(len(labels)) if row == 0 or labels[row] != labels[row - 1]]
    pieces = []
    for start, end in zip(starts, [*starts[1:], len(labels)], strict=True):
        at, wide, expert = start * size, (end - start) * size, labels[start]
        box = {"x": x + at, "y": y + at, "width": wide, "height": wide}
        pieces.append(tag("rect", **box, class_="under"))
        pieces.append(tag("rect", **box, class_=f"frame s{expert % COLORS}"))
        pieces.append(label(x + at + wide / 2, y - 7, str(expert), class_=f"name s{expert % COLORS}"))
    return tag("g", pieces)
