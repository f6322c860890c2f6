"""The scores of two rows of a table, seed by seed, and what tests look up in tables."""

from __future__ import annotations

from fedlease.report.table import Cell, Table

FEDIT = {0: [0.5, 0.6, 0.7, 0.8], 1: [0.55, 0.6, 0.7, 0.75], 2: [0.5, 0.5, 0.6, 0.8]}
LEASE = {0: [0.6, 0.7, 0.7, 0.9], 1: [0.65, 0.75, 0.7, 0.85], 2: [0.6, 0.6, 0.7, 0.9]}


def cell(table: Table, row: str, title: str, section: int = 0) -> Cell:
    part = table.sections[section]
    (place,) = [i for i, column in enumerate(part.columns) if column.title == title]
    return part.rows[row][place]


def titles(table: Table, section: int = 0) -> list[str]:
    """The titles of the columns."""
    return [column.title for column in table.sections[section].columns]


def said(table: Table, words: str) -> str:
    """The one note in which these words stand."""
    (note,) = [note for note in table.notes if words in note]
    return note
