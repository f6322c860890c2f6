"""``fedlease table``: from folders to a table on the screen or in a file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fedlease.cli.collect import chosen, collect, readable, title_of, waiting
from fedlease.core.errors import FedLeaseError
from fedlease.core.files import write_bytes
from fedlease.report.table import make_table
from fedlease.report.table_formats import FORMATS
from fedlease.report.table_text import on_screen


def show_table(
    screen: Console, folders: Sequence[Path], against: str | None, name: str, out: Path | None
) -> None:
    """Print a table, or write it to ``out``.

    Notes that the format has no place for go to the standard error.

    Raises:
        FedLeaseError: no such format, folders that are no runs, rows that cannot be compared, or a place that
            cannot be written.
    """
    if name not in FORMATS:
        raise FedLeaseError(f"--format {name}: there is no such format; there are: {', '.join(FORMATS)}")
    folders = chosen(folders)
    with readable(folders):
        table = make_table(collect(folders), against, title_of(folders), waiting(folders))
    form = FORMATS[name]
    if out is not None:
        write_bytes(out, form.write(table).encode())
    elif name == "text" and screen.is_terminal:
        screen.print(on_screen(table, screen.width))
    else:
        sys.stdout.write(form.write(table))
    if not form.with_notes:
        for note in table.notes:
            print(note, file=sys.stderr)
