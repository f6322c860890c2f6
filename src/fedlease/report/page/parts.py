"""What sections are made of: tables, figures, lists, each readable by keyboard and screen reader."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fedlease.report.page.markup import Child, Html, join, tag

NARROW = 4
"""Columns of a table that fit a phone."""

LONG = 14
"""Letters of a heading above which it may take several lines."""

NONE = "–"
"""What stands where there is nothing to tell."""


class Column(NamedTuple):
    """A column of a table: its heading, and whether numbers stand in it."""

    title: str
    number: bool = True


def table(
    caption: str,
    columns: Sequence[Column],
    rows: Iterable[Sequence[Child]],
    *,
    above: Sequence[tuple[str, int]] = (),
    sortable: bool = False,
) -> Html:
    """Return a table; the first cell of every row is its heading.

    Args:
        caption: what the table shows.
        columns: the columns, that of the headings included.
        rows: their cells.
        above: a second row of headings above the first: words and how many columns each stands over.
        sortable: whether its columns can be sorted where scripts run.
    """
    heads = [tag("th", column.title, scope="col", class_=_head(column)) for column in columns]
    over = [
        tag("th", words, scope="colgroup", colspan=span) if words else tag("td", colspan=span)
        for words, span in above
    ]
    body = [
        tag(
            "tr",
            tag("th", cells[0], scope="row"),
            [tag("td", cell, class_=_class(col)) for cell, col in zip(cells[1:], columns[1:], strict=True)],
        )
        for cells in rows
    ]
    made = tag(
        "table",
        tag("caption", tag("span", caption)),
        tag("thead", tag("tr", over) if over else None, tag("tr", heads)),
        tag("tbody", body),
        class_="sortable" if sortable else None,
    )
    return scroll(made, caption) if len(columns) > NARROW else made


def _class(column: Column) -> str | None:
    return "number" if column.number else None


def _head(column: Column) -> str | None:
    return " ".join(filter(None, (_class(column), "long" if len(column.title) > LONG else None))) or None


def scroll(content: Child, label: str) -> Html:
    """Return what may be wider than the page in a frame of its own that keys can scroll."""
    return tag("div", content, class_="scroll", role="group", aria_label=label, tabindex="0")


def figure(title: str, drawing: Child, *more: Child, wide: str = "") -> Html:
    """Return a drawing with its title above it, and what belongs to it below, such as a legend.

    Args:
        title: what is shown.
        drawing: an SVG made by `drawing`.
        more: what stands below it.
        wide: for one that may be wider than a phone: what it is called where keys scroll it.
    """
    inner = scroll(drawing, wide) if wide else drawing
    return tag("figure", tag("figcaption", title), inner, *more, class_="wide" if wide else None)


def drawing(width: float, height: float, alt: str, *content: Child) -> Html:
    """Return an SVG of so many pixels with its text alternative; it shrinks with a narrow page."""
    return tag(
        "svg",
        *content,
        role="img",
        aria_label=alt,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=f"{width:.0f}",
        height=f"{height:.0f}",
    )


def details(summary: str, *content: Child) -> Html:
    """Return what is opened on demand."""
    return tag("details", tag("summary", summary), *content)


def listed(items: Iterable[Child], class_: str | None = None) -> Html:
    """Return a list."""
    return tag("ul", [tag("li", item) for item in items], class_=class_)


def paragraph(*words: Child, class_: str | None = None) -> Html:
    """Return a paragraph."""
    return tag("p", *words, class_=class_)


def grid(*cards: Child) -> Html:
    """Return cards side by side where they fit."""
    return tag("div", *cards, class_="grid")


def both(*parts: Child) -> Html:
    """Return parts one after the other."""
    return join(parts)


def counted(number: int, what: str) -> str:
    """``1 client``, ``2 clients``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
