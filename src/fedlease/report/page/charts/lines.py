"""Line charts: one line a run or client, told apart by colour, mark and dashes, and named in a legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fedlease.report.page.charts.frame import COLORS, Frame, label, path
from fedlease.report.page.markup import Html, number, tag
from fedlease.report.page.parts import drawing, listed

WIDTH, HEIGHT = 330.0, 220.0

MARKS = (
    "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0z",
    "m-2.7-2.7h5.4v5.4h-5.4z",
    "m0-3.6l3.3 6h-6.6z",
    "m0-3.8l3.4 3.8l-3.4 3.8l-3.4-3.8z",
    "m0 3.6l3.3-6h-6.6z",
    "m3.6 0l-6-3.3v6.6z",
    "m-3.6 0l6-3.3v6.6z",
    "m-1.2-3.6h2.4v7.2h-2.4z",
)
"""Circle, square, triangles, diamond, bar: paths that start at the middle of the mark."""

DASHES = (None, "6 3", "2 3", "8 3 2 3")
MOST_MARKS = 12
"""Marks on a line; of more points every second, third, ... has one."""


class Line(NamedTuple):
    """A line of a chart.

    Attributes:
        name: what it is called.
        points: x and y of each, in order.
        style: its place among the lines: it says colour, mark and dashes. None is a thin grey line.
        strong: whether it is drawn in the colour of text and thick, as a mean is.
    """

    name: str
    points: Sequence[tuple[float, float]]
    style: int | None
    strong: bool = False


class Ranges(NamedTuple):
    """What a chart shows: from, to along x and along y."""

    xs: tuple[float, float]
    ys: tuple[float, float]


def line_chart(lines: Sequence[Line], alt: str, x_label: str, ranges: Ranges) -> Html:
    """Draw lines on common axes of whole numbers along x."""
    frame = Frame.of(WIDTH, HEIGHT, *ranges)
    return drawing(WIDTH, HEIGHT, alt, frame.drawn(x_label), [_line(frame, line) for line in lines])


def _line(frame: Frame, line: Line) -> Html:
    points = [(frame.x(x), frame.y(y)) for x, y in line.points]
    shown = [
        tag("title", line.name),
        tag("path", d=path(points), class_="line", stroke_dasharray=_dash(line)),
    ]
    if line.style is not None or len(points) == 1:
        mark = MARKS[(line.style or 0) % len(MARKS)]
        marked = points[:: -(-len(points) // MOST_MARKS)]
        shown.append(
            tag("path", d="".join(f"M{number(x)} {number(y)}{mark}" for x, y in marked), class_="mark")
        )
    return tag("g", shown, class_=_class(line))


def legend(lines: Sequence[Line], values: Sequence[str] | None = None) -> Html:
    """Name the lines below a chart, each maybe with a value."""
    said = values or [""] * len(lines)
    return listed(
        (
            [_sample(line), line.name, tag("span", value, class_="value") if value else None]
            for line, value in zip(lines, said, strict=True)
        ),
        "legend",
    )


def _sample(line: Line) -> Html:
    mark = "" if line.strong or line.style is None else MARKS[line.style % len(MARKS)]
    pieces = [tag("path", d="M1 6H25", class_="line", stroke_dasharray=_dash(line))]
    pieces += [tag("path", d=f"M13 6{mark}", class_="mark")] if mark else []
    return tag("svg", pieces, class_=_class(line), width="26", height="12", aria_hidden="true")


def _dash(line: Line) -> str | None:
    return None if line.style is None else DASHES[line.style // COLORS % len(DASHES)]


def _class(line: Line) -> str:
    if line.strong:
        return "strong"
    return "faint" if line.style is None else f"s{line.style % COLORS}"


def silhouette_chart(scores: dict[int, float], chosen: int, threshold: float | None, alt: str) -> Html:
    """Draw S(k) with the chosen k ringed, and the line at or below which it is weak."""
    high = max([*scores.values(), threshold or 0.0]) * 1.15
    low = min([*scores.values(), 0.0])
    frame = Frame.of(WIDTH, HEIGHT, (min(scores) - 0.3, max(scores) + 0.3), (low, high), left=46)
    pieces = frame.drawn("number of clusters k")
    if threshold is not None:
        at = frame.y(threshold)
        rule = f"M{number(frame.x.start)} {number(at)}H{number(frame.x.end)}"
        pieces.append(tag("path", d=rule, class_="limit", stroke_dasharray="5 4"))
        pieces.append(label(frame.x.end, at - 5, f"weak at or below {threshold:g}", "end"))
    pieces.append(_line(frame, Line("silhouette", list(scores.items()), 0)))
    if chosen in scores:
        ring = tag("circle", cx=frame.x(chosen), cy=frame.y(scores[chosen]), r="8", class_="ring")
        pieces.append(ring)
    return drawing(WIDTH, HEIGHT, alt, pieces)


def spark(points: Sequence[tuple[float, float]], ranges: Ranges) -> Html:
    """A small line without axes, for a cell of a table whose numbers stand beside it."""
    frame = Frame.of(96, 22, *ranges)
    x, y = frame.x._replace(start=3, end=93), frame.y._replace(start=19, end=3)
    drawn = [(x(a), y(b)) for a, b in points]
    pieces = [tag("path", d=path(drawn), class_="line")]
    pieces.append(tag("circle", cx=drawn[-1][0], cy=drawn[-1][1], r="2.2", class_="mark"))
    return tag("svg", pieces, class_="spark s0", width="96", height="22", aria_hidden="true")
