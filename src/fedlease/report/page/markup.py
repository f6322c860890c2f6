"""HTML and SVG as values: text is escaped where it enters markup, so that no name of a user can be markup."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TypeAlias


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


Child: TypeAlias = "str | Iterable[Child] | None"
"""What stands in an element: text, markup, any number of either, or nothing."""

ALONE = {"br", "col", "meta"}
"""HTML elements without an end."""

SHAPES = {"circle", "line", "path", "rect"}
"""SVG elements that are closed at once when they are empty."""


def tag(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Html:
    """Return an element.

    Attributes are written as in Python: ``class_`` is ``class``, ``stroke_width`` is ``stroke-width``. None
    and False leave one out, True writes its name alone.
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        named = key.rstrip("_").replace("_", "-")
        words.append(named if value is True else f'{named}="{escape(_text(value))}"')
    inner = join(children)
    if name in ALONE or (name in SHAPES and not inner):
        return Html(f"<{' '.join(words)}{'/' if name in SHAPES else ''}>")
    return Html(f"<{' '.join(words)}>{inner}</{name}>")


def join(children: Child, between: str = "") -> Html:
    """Return children one after the other, text escaped."""
    if children is None:
        return Html()
    if isinstance(children, Html):
        return children
    if isinstance(children, str):
        return Html(escape(children))
    return Html(between.join(join(child) for child in children))


def number(value: float) -> str:
    """A coordinate with one decimal at most."""
    return f"{value:.1f}".removesuffix(".0")


def _text(value: str | float) -> str:
    return number(value) if isinstance(value, float) else str(value)
