"""What every picture shares: colours, a figure without global state, names that fit, atomic PNG and SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fedlease.core.files import write_bytes

# Okabe and Ito's colours, told apart by colour-blind readers, without the yellow that vanishes on white.
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7A5195")
GREY = "#8A8A8A"
MARKERS = "os^Dv<>P"
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---", "++", "oo")

SMALL: dict[str, Any] = {
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "hatch.linewidth": 0.6,
}
"""Matplotlib's settings for a figure of a paper, up to `PAGE` inches wide."""

PAGE = 7.0
"""Inches of a page's width."""

LETTER = 0.068
"""Inches of a letter of 8 points, on the wide side."""

LINE = 0.14
"""Inches of a line of 8 points."""

FORMATS: dict[str, dict[str, Any]] = {"png": {"dpi": 200}, "svg": {"metadata": {"Date": None}}}


def new_figure(width: float, height: float, layout: str | None = "constrained") -> Figure:
    """Return an empty figure of that many inches."""
    figure = Figure(figsize=(width, height), dpi=120, layout=layout)  # type: ignore[arg-type]
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG; a file already there is replaced in one step.

    Raises:
        FedLeaseError: the place cannot be written.
    """
    content = io.BytesIO()
    figure.savefig(content, format="png")
    write_bytes(path, content.getvalue())


def save_both(figure: Figure, stem: Path) -> tuple[Path, Path]:
    """Write ``STEM.png`` and ``STEM.svg``; the same figure gives the same bytes.

    Returns:
        The two files, each replaced in one step where it was there.

    Raises:
        FedLeaseError: the place cannot be written.
    """
    contents = {}
    with rc_context({"svg.hashsalt": "fedlease"}):  # ids in the SVG are else drawn at random
        for kind, options in FORMATS.items():
            stream = io.BytesIO()
            figure.savefig(stream, format=kind, **options)
            contents[kind] = stream.getvalue()
    png, svg = (stem.with_name(f"{stem.name}.{kind}") for kind in FORMATS)
    write_bytes(png, contents["png"])
    write_bytes(svg, contents["svg"])
    return png, svg


def shorten(name: str, letters: int) -> str:
    """Return a name of at most so many letters; what is too long loses its middle, not its number."""
    if len(name) <= letters:
        return name
    end = max(2, letters // 3)
    return f"{name[: letters - end - 1]}…{name[-end:]}"


def name_places(
    axes: Axes, names: Sequence[str], inches: float, most: int = 16, at: Sequence[float] | None = None
) -> float:
    """Name places on the x axis: level where the names fit side by side, maybe in lines, else upright.

    Args:
        axes: whose x axis.
        names: one a place; above ``most`` letters an upright name loses its middle.
        inches: about the width of the axes.
        most: letters of an upright name.
        at: the places; None is 0, 1, ...

    Returns:
        The inches that the names need below the axes beyond a single line.
    """
    room = int(inches / max(len(names), 1) / LETTER) - 1  # letters side by side
    lines = [wrap(name, max(room, 1)) for name in names]
    level = all(len(pieces) <= (3 if room >= 10 else 1) for pieces in lines)
    shown = ["\n".join(pieces) for pieces in lines] if level else [shorten(name, most) for name in names]
    axes.set_xticks(range(len(names)) if at is None else at, shown, rotation=0 if level else 90)
    axes.tick_params(axis="x", length=0)
    if level:
        return LINE * (max(map(len, lines), default=1) - 1)
    return LETTER * max(map(len, shown), default=0)


def grow(figure: Figure, inches: float) -> None:
    """Make a figure taller."""
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + inches)


def legend_columns(labels: Sequence[str], width: float, letter: float = 0.09) -> int:
    """Return how many entries of a legend fit side by side into so many inches."""
    fit = int(width / (0.7 + letter * max(map(len, labels))))  # inches of a line, its marker and its name
    return max(1, min(len(labels), fit))


def bare(axes: Axes, keep: Sequence[str] = ("left", "bottom")) -> None:
    """Leave only some of the lines around the axes."""
    for name, spine in axes.spines.items():
        spine.set_visible(name in keep)


def color_of(index: int) -> str:
    """Return the colour of the index-th of several things; from the ninth on colours come again."""
    return OKABE_ITO[index % len(OKABE_ITO)]


def filling(index: int) -> dict[str, Any]:
    """Return how bars of the index-th of several things are filled: colour and hatch, edged in white."""
    hatch = HATCHES[index % len(HATCHES)]
    return {"facecolor": color_of(index), "hatch": hatch, "edgecolor": "white"}
