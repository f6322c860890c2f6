"""Heat maps with clients along an axis: what Figures 3, 6c and 9 share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from fedlease.report.canvas import LINE, name_places, shorten
from fedlease.report.records import Record, groups

Matrix = NDArray[np.float64]

NAME = 16
"""Letters of a client's or group's name."""


class Span(NamedTuple):
    """The clients of a group, beside each other: the first one's place and the place after the last."""

    name: str
    start: int
    end: int

    @property
    def middle(self) -> float:
        """The place in the middle."""
        return (self.start + self.end - 1) / 2


def in_groups(record: Record) -> tuple[list[str], list[Span]]:
    """Return the clients group by group in the order of the spec, and where each group is."""
    clients: list[str] = []
    spans = []
    for name, found in groups(record).items():
        members = sorted(found, key=_natural)
        spans.append(Span(name, len(clients), len(clients) + len(members)))
        clients += members
    return clients, spans


def _natural(name: str) -> tuple[str, int]:
    """What sorts a-2 before a-10."""
    number = re.search(r"\d*$", name)
    digits = number.group() if number else ""
    return name.removesuffix(digits), int(digits or 0)


def fits(clients: Sequence[str], inches: float) -> bool:
    """Whether every client can be named along so many inches."""
    return len(clients) * LINE <= inches


def heat_map(axes: Axes, values: Matrix, **style: Any) -> AxesImage:
    """Draw a matrix in colours that colour-blind readers can order."""
    image = axes.imshow(values, cmap="cividis", aspect="auto", interpolation="nearest", **style)
    axes.tick_params(length=0)
    return image


def part_groups(axes: Axes, spans: Sequence[Span], both: bool = False) -> None:
    """Draw white lines between groups of clients along x, and along y as well where ``both``."""
    for span in spans[1:]:
        axes.axvline(span.start - 0.5, color="white", linewidth=1.6)
        if both:
            axes.axhline(span.start - 0.5, color="white", linewidth=1.6)


def name_clients(
    axes: Axes, clients: Sequence[str], spans: Sequence[Span], inches: float, along: str = "x"
) -> float:
    """Name the clients along an axis, or their groups where there are too many clients.

    Returns:
        The inches that names along x need beyond a single line.
    """
    places: list[float] = [*range(len(clients))]
    names = list(clients)
    if not fits(clients, inches):
        places, names = [span.middle for span in spans], [span.name for span in spans]
    axes.set(**{f"{along}label": "client" if names == list(clients) else "clients, by group"})
    if along == "y":
        axes.set_yticks(places, [shorten(name, NAME) for name in names])
        return 0.0
    return name_places(axes, names, inches, NAME, places)
