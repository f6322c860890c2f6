"""A table as text: sections side by side where they fit, else one below the other."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console, Group
from rich.table import Table as Grid
from rich.text import Text

from fedlease.report.table import DECIMALS, Cell, Column, Section, Table
from fedlease.report.table_notes import signed

WIDTH = 140
"""Letters of a line in files, unless one section needs more."""

ENOUGH = 10_000


def cell_text(column: Column, cell: Cell) -> str:
    """What stands in a cell; ``-`` for nothing."""
    if column.kind == "p":
        found = cell.comparison.p if cell.comparison is not None else None
        return "-" if found is None else "<0.001" if found < 0.0005 else f"{found:.3f}"
    if cell.value is None:
        return "-"
    mean, deviation, _ = cell.value
    match column.kind:
        case "parameters":
            return f"{mean:.4f}"
        case "experts":
            return f"{mean:.{DECIMALS}f}".rstrip("0").rstrip(".")
        case "difference":
            return signed(mean)
    spread = "" if deviation is None else f" ± {deviation:.{DECIMALS}f}"
    return f"{mean:.{DECIMALS}f}{spread}"


def cells_of(section: Section, row: str) -> Sequence[Cell]:
    """The cells of a row in a section; empty ones where the section lacks it."""
    return section.rows.get(row) or [Cell()] * len(section.columns)


def text(table: Table) -> str:
    """A table as plain text."""
    file = io.StringIO()
    width = max(WIDTH, *(_width(_grid(table, [section])) for section in table.sections))
    Console(file=file, width=width, color_system=None).print(on_screen(table, width))
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def on_screen(table: Table, width: int) -> Group:
    """A table for a terminal of that many letters: the best of each column in bold."""
    grids = [_grid(table, table.sections)]
    if len(table.sections) > 1 and _width(grids[0]) > width:
        grids = [_grid(table, [section]) for section in table.sections]
    title = Text(table.title, style="italic")
    return Group(title, *grids, *(Text(note) for note in table.notes))


def _grid(table: Table, sections: Sequence[Section]) -> Grid:
    named = any(section.name for section in sections)
    grid = Grid()
    grid.add_column(Text("\nmethod" if named else "method"), overflow="fold")
    for section in sections:
        for place, column in enumerate(section.columns):
            above = f"{section.name if place == 0 else ''}\n" if named else ""
            grid.add_column(Text(above + column.title), justify="right")
    for row in table.rows:
        if any(row in section.rows for section in sections):
            grid.add_row(Text(row), *(cell for section in sections for cell in _shown(section, row)))
    return grid


def _shown(section: Section, row: str) -> list[Text]:
    pairs = zip(section.columns, cells_of(section, row), strict=True)
    return [Text(cell_text(column, cell), style="bold" if cell.best else "") for column, cell in pairs]


def _width(grid: Grid) -> int:
    return Console(file=io.StringIO(), width=ENOUGH).measure(grid).maximum
