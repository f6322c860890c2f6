"""Axes of a chart: from values to pixels, ticks and their labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.ticker import MaxNLocator

from fedlease.report.page.markup import Html, number, tag

LETTER = 6.4
"""Pixels of a letter, on the wide side."""

COLORS = 8
"""Colours of series in the style sheet: ``s0`` to ``s7``."""


class Scale(NamedTuple):
    """From values to pixels along one axis."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        span = self.high - self.low or 1.0
        return self.start + (value - self.low) / span * (self.end - self.start)


def ticks(low: float, high: float, most: int = 5, whole: bool = False) -> list[float]:
    """Round numbers from low to high."""
    found = MaxNLocator(nbins=most, integer=whole, min_n_ticks=1).tick_values(low, high)
    return [float(value) for value in found if low - 1e-9 <= value <= high + 1e-9]


def plain(value: float) -> str:
    """A tick's label."""
    return f"{value + 0.0:.10g}"


class Frame(NamedTuple):
    """The part of a drawing that data are drawn into."""

    x: Scale
    y: Scale

    @classmethod
    def of(
        cls, width: float, height: float, xs: tuple[float, float], ys: tuple[float, float], left: float = 40.0
    ) -> Frame:
        """Leave room for the labels of both axes."""
        return cls(Scale(*xs, left, width - 12), Scale(*ys, height - 36, 10))

    def drawn(self, x_label: str, whole: bool = True) -> list[Html]:
        """Lines of the grid, labels of the ticks, and the name of the x axis."""
        x, y = self.x, self.y
        pieces = []
        for value in ticks(y.low, y.high):
            at = y(value)
            pieces.append(tag("path", d=f"M{number(x.start)} {number(at)}H{number(x.end)}", class_="rule"))
            pieces.append(label(x.start - 6, at + 4, plain(value), "end"))
        pieces += [label(x(value), y.start + 16, plain(value)) for value in ticks(x.low, x.high, 8, whole)]
        return [*pieces, label((x.start + x.end) / 2, y.start + 32, x_label)]


def label(x: float, y: float, words: str, anchor: str = "middle", class_: str | None = None) -> Html:
    """Return text in a drawing."""
    return tag("text", words, x=x, y=y, text_anchor=None if anchor == "start" else anchor, class_=class_)


def path(points: Sequence[tuple[float, float]]) -> str:
    """The data of a path through points."""
    return "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)
