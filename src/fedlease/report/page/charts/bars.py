"""Bars made of parts side by side, and dots along a line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from fedlease.report.canvas import shorten
from fedlease.report.page.charts.frame import COLORS, LETTER, Scale, label, ticks
from fedlease.report.page.markup import Html, number, tag
from fedlease.report.page.parts import drawing, listed

WIDTH = 330.0
NAME = 15
"""Letters of a bar's name that fit beside it; longer names stand above."""

LONG = 46
"""Letters that fit above a bar."""

LEAST_PIXELS = 16.0
"""A part as wide as this has room for its number."""


class Bar(NamedTuple):
    """A bar: its name, the value of each part (0 for none), and what stands at its end."""

    name: str
    values: Sequence[float]
    end: str = ""


def stacked(
    bars: Sequence[Bar], parts: Sequence[str], alt: str, say: Callable[[float], str], numbered: bool = False
) -> Html:
    """Draw bars of parts, a colour each.

    Args:
        bars: from top to bottom.
        parts: what the parts are called, in the order of the values.
        alt: the text alternative.
        say: writes a value, for who points at it.
        numbered: whether a part carries its number, as experts do.
    """
    longest = max(len(bar.name) for bar in bars)
    above = 16.0 if longest > NAME else 0.0
    left = 2.0 if above else LETTER * longest + 8
    right = LETTER * max(len(bar.end) for bar in bars) + (8 if any(bar.end for bar in bars) else 2)
    most = max(sum(bar.values) for bar in bars) or 1.0
    height = 19.0 if len(bars) <= 24 else 13.0
    step = height + above + (9 if above else 5)
    scale = Scale(0.0, most, left, WIDTH - right)
    rows = []
    for row, bar in enumerate(bars):
        top, start = row * step + above + 2, 0.0
        if above:
            pieces = [label(left, top - 4, shorten(bar.name, LONG), "start")]
        else:
            pieces = [label(left - 6, top + height / 2 + 4, bar.name, "end")]
        for part, value in enumerate(bar.values):
            if value > 0:
                named = tag("title", f"{bar.name}, {parts[part]}: {say(value)}")
                pieces.append(tag("g", named, _part(scale, start, value, top, height, part, numbered)))
                start += value
        if bar.end:
            pieces.append(label(scale(start) + 6, top + height / 2 + 4, bar.end, "start"))
        rows.append(tag("g", pieces))
    return drawing(WIDTH, len(bars) * step + 4, alt, rows)


def _part(
    scale: Scale, start: float, value: float, top: float, height: float, part: int, numbered: bool
) -> Html:
    at, width = scale(start), scale(start + value) - scale(start)
    box = tag("rect", x=at, y=top, width=max(width - 1, 0.5), height=height, class_=f"fill s{part % COLORS}")
    if not numbered or width < LEAST_PIXELS:
        return box
    return tag(
        "g", box, label(at + width / 2, top + height / 2 + 4, str(part), class_=f"on s{part % COLORS}")
    )


def patches(parts: Sequence[str]) -> Html:
    """Name the colours of bars."""
    return listed(
        (
            [tag("span", class_=f"key s{i % COLORS}", aria_hidden="true"), part]
            for i, part in enumerate(parts)
        ),
        "legend",
    )


class Strip(NamedTuple):
    """A line of dots: its name, the values with what each is called, the colour."""

    name: str
    dots: Sequence[tuple[str, float]]
    style: int


def strips(rows: Sequence[Strip], alt: str, x_label: str) -> Html:
    """Draw every value as a dot, and the mean of a line as a bar across it; names stand above the lines."""
    values = [value for row in rows for _, value in row.dots]
    low, high = min(values), max(values)
    margin = max((high - low) * 0.05, 0.5)
    scale, step = Scale(low - margin, high + margin, 12, WIDTH - 12), 44.0
    bottom = len(rows) * step + 4
    pieces = []
    for value in ticks(scale.low, scale.high, 6):
        pieces.append(tag("path", d=f"M{number(scale(value))} 4V{number(bottom)}", class_="rule"))
        pieces.append(label(scale(value), bottom + 14, f"{value:g}"))
    pieces.append(label(WIDTH / 2, bottom + 30, x_label))
    for place, row in enumerate(rows):
        y = place * step + 32
        dots = [
            tag("circle", tag("title", f"{name}: {value:.1f}"), cx=scale(value), cy=y, r="5", class_="dot")
            for name, value in row.dots
        ]
        middle = scale(sum(value for _, value in row.dots) / len(row.dots))
        mean = tag("path", d=f"M{number(middle)} {number(y - 10)}v20", class_="mean")
        name = label(12, y - 14, shorten(row.name, 48), "start", "name")
        pieces.append(tag("g", name, dots, mean, class_=f"s{row.style % COLORS}"))
    return drawing(WIDTH, bottom + 36, alt, pieces)
