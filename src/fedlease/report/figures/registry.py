"""Figures by the name they have in the paper; a file in this folder that lists ``FIGURES`` is found."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from fedlease.core.errors import FedLeaseError
from fedlease.report.canvas import SMALL, save_both
from fedlease.report.records import Entry

DRAWINGS: Mapping[str, str] = {
    "1": "a LoRA mixture of experts",
    "5": "how FedLEASE allocates and selects experts",
}
"""Figures of the paper that explain, and show no result."""


@dataclass(frozen=True)
class Picture:
    """A figure of the paper.

    Attributes:
        name: its number there, with the letter of a part: ``"6a"``.
        title: what it shows.
        draw: makes it from runs; raises `FedLeaseError` for runs it cannot be made from.
    """

    name: str
    title: str
    draw: Callable[[Sequence[Entry]], Figure]

    def figure(self, entries: Sequence[Entry]) -> Figure:
        """Draw the figure.

        Raises:
            FedLeaseError: no runs, or none that it can be made from; the message says what it needs.
        """
        try:
            if not entries:
                raise FedLeaseError("none of the runs has a record yet")
            with rc_context(SMALL):
                return self.draw(entries)
        except FedLeaseError as error:
            raise FedLeaseError(f"figure {self.name}: {error}") from error
        except (KeyError, TypeError, ValueError, IndexError) as error:
            what = f"{type(error).__name__} {error}"
            raise FedLeaseError(f"figure {self.name}: a record is not as expected: {what}") from error

    def write(self, entries: Sequence[Entry], stem: Path) -> tuple[Path, Path]:
        """Draw the figure and write ``STEM.png`` and ``STEM.svg``; equal runs give equal bytes.

        Raises:
            FedLeaseError: it cannot be drawn, or the place cannot be written.
        """
        figure = self.figure(entries)
        with rc_context(SMALL):
            return save_both(figure, stem)


@cache
def figures() -> Mapping[str, Picture]:
    """Every figure by name, sorted."""
    package = importlib.import_module("fedlease.report.figures")
    found: dict[str, Picture] = {}
    for info in pkgutil.iter_modules(package.__path__):
        for picture in getattr(importlib.import_module(f"{package.__name__}.{info.name}"), "FIGURES", ()):
            if picture.name in found:
                raise FedLeaseError(f"two figures are called {picture.name}; one is in {info.name}")
            found[picture.name] = picture
    return dict(sorted(found.items(), key=lambda item: _place(item[0])))


def find(name: str) -> list[Picture]:
    """Return the figure of that name, or all parts of one: ``"6a"``, ``"fig6a"``; ``"6"`` is 6a, 6b and 6c.

    Raises:
        FedLeaseError: there is none; the message lists those there are.
    """
    number = re.sub(r"^(figure|fig)[.\s_-]*", "", name.strip().lower())
    parts = [picture for key, picture in figures().items() if re.fullmatch(f"{re.escape(number)}[a-z]?", key)]
    if parts:
        return [part for part in parts if part.name == number] or parts
    if number in DRAWINGS:
        raise FedLeaseError(f"figure {number} is a drawing ({DRAWINGS[number]}): no run gives it")
    raise FedLeaseError(f"there is no figure {name!r}; there are: {', '.join(figures())}")


def _place(name: str) -> tuple[int, str]:
    digits = re.match(r"\d*", name)
    number = digits.group() if digits else ""
    return int(number or 0), name
