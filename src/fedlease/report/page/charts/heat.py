"""Heat maps: cells of one colour are one path, which keeps a map of 64 x 64 clients small."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from fedlease.report.canvas import shorten
from fedlease.report.figures.heat import Span
from fedlease.report.page.charts.frame import LETTER, label
from fedlease.report.page.markup import Html, number, tag
from fedlease.report.page.parts import drawing

LEVELS = 48
"""Colours of a map; the eye tells fewer apart."""

NAME = 16
"""Letters of a client's name."""

Matrix = NDArray[np.float64]


def cell_size(clients: int) -> float:
    """Pixels of a client's row or column: names fit up to 96 of them."""
    return 18.0 if clients <= 20 else 13.0 if clients <= 96 else max(2.0, 900.0 / clients)


def cells(values: Matrix, low: float, high: float, x: float, y: float, width: float, height: float) -> Html:
    """Draw the cells of a matrix; nan is left empty. Neighbours in a row of one colour are one shape."""
    share = (values - low) / ((high - low) or 1.0)
    levels = np.where(np.isnan(values), -1, np.clip(np.rint(share * (LEVELS - 1)), 0, LEVELS - 1)).astype(int)
    shapes: dict[int, list[str]] = {}
    for row, line in enumerate(levels.tolist()):
        starts = [i for i in range(len(line)) if i == 0 or line[i] != line[i - 1]]
        for start, end in zip(starts, [*starts[1:], len(line)], strict=True):
            wide = number((end - start) * width)
            at = f"M{number(x + start * width)} {number(y + row * height)}"
            shapes.setdefault(line[start], []).append(f"{at}h{wide}v{number(height)}h-{wide}z")
    drawn = [
        tag("path", d="".join(paths), fill=_color(level / (LEVELS - 1)))
        for level, paths in sorted(shapes.items())
        if level >= 0
    ]
    return tag("g", drawn, shape_rendering="crispEdges")


def _color(share: float) -> str:
    """A colour that colour-blind readers can order."""
    return to_hex(colormaps["cividis"](share))


def scale_bar(low: str, high: str, what: str) -> Html:
    """What the colours of a map mean: a legend below it."""
    steps = 24
    boxes = [
        tag("rect", x=i * 5.0, y="0", width="5", height="10", fill=_color(i / (steps - 1)))
        for i in range(steps)
    ]
    bar = tag("svg", boxes, width=str(steps * 5), height="10", aria_hidden="true", class_="scale")
    return tag(
        "p", tag("span", what), tag("span", low, " ", bar, " ", high, class_="nowrap"), class_="legend"
    )


def upright(x: float, y: float, name: str) -> Html:
    """Return a name read from below, ending at a place."""
    at = f"rotate(-90 {number(x)} {number(y)})"
    return tag("text", shorten(name, NAME), x=x, y=y, transform=at)


def layer_map(
    values: Matrix,
    layers: Sequence[str],
    clients: Sequence[str],
    spans: Sequence[Span],
    ends: tuple[float, float],
    alt: str,
) -> Html:
    """Draw a map [layers, clients], the clients named above it, or their groups where there are too many."""
    size, high = cell_size(len(clients)), 18.0 if len(layers) <= 40 else 12.0
    left = LETTER * max(len(shorten(layer, NAME)) for layer in layers) + 10
    named = len(clients) <= 96
    names = clients if named else [span.name for span in spans]
    top = LETTER * max(len(shorten(name, NAME)) for name in names) + 8
    places = [float(i) for i in range(len(clients))] if named else [span.middle for span in spans]
    pieces = [
        upright(left + (at + 0.5) * size + 4, top - 5, name) for at, name in zip(places, names, strict=True)
    ]
    pieces.append(cells(values, *ends, left, top, size, high))
    pieces += [
        label(left - 6, top + row * high + high / 2 + 4, shorten(name, NAME), "end")
        for row, name in enumerate(layers)
    ]
    bottom = top + len(layers) * high
    lines = "".join(
        f"M{number(left + span.start * size)} {number(top)}V{number(bottom)}" for span in spans[1:]
    )
    if lines:
        pieces.append(tag("path", d=lines, class_="gap"))
    return drawing(left + len(clients) * size + 6, bottom + 4, alt, pieces)
