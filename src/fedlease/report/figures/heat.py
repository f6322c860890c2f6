"""Heat maps with clients along an axis: what Figures 3, 6c and 9 share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from fedlease.report.canvas import LETTER, shorten
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
    for name, members in groups(record).items():
        spans.append(Span(name, len(clients), len(clients) + len(members)))
        clients += members
    return clients, spans


def fits(clients: Sequence[str], inches: float) -> bool:
    """Whether every client can be named along so many inches."""
    return len(clients) * 0.135 <= inches  # of a line of 8 points


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
) -> None:
    """Name the clients along an axis, or their groups where there are too many clients."""
    if fits(clients, inches):
        places, names = list(map(float, range(len(clients)))), [shorten(name, NAME) for name in clients]
    else:
        places, names = [span.middle for span in spans], [shorten(span.name, NAME) for span in spans]
    if along == "y":
        axes.set_yticks(places, names)
        return
    level = (max(map(len, names)) + 1) * LETTER * len(names) <= inches
    axes.set_xticks(places, names, rotation=0 if level else 90)
