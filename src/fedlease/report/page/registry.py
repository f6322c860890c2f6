"""The sections of the page; a file in ``sections/`` that has a ``SECTION`` is found."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from fedlease.report.page.markup import Html
from fedlease.report.page.shown import Report


class Section(NamedTuple):
    """A part of the page with a heading of its own.

    Attributes:
        name: its address in the page.
        title: its heading.
        place: sections come in the order of this number.
        make: what stands in it; None leaves the section out.
    """

    name: str
    title: str
    place: int
    make: Callable[[Report], Html | None]


@cache
def sections() -> tuple[Section, ...]:
    """Every section, in the order of the page."""
    package = importlib.import_module("fedlease.report.page.sections")
    modules = [
        importlib.import_module(f"{package.__name__}.{info.name}")
        for info in pkgutil.iter_modules(package.__path__)
    ]
    found = [module.SECTION for module in modules if hasattr(module, "SECTION")]
    return tuple(sorted(found, key=lambda section: section.place))
