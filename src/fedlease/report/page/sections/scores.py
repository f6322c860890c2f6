"""The table: every run by group of clients, and the paper's table of means and tests where there is one."""

from __future__ import annotations

from collections.abc import Sequence

from fedlease.core.errors import FedLeaseError
from fedlease.report.page.markup import Child, Html, tag
from fedlease.report.page.parts import NONE, Column, both, listed, paragraph, table
from fedlease.report.page.registry import Section
from fedlease.report.page.shown import Report, Shown, key
from fedlease.report.records import average, capital, groups
from fedlease.report.table import Table, make_table
from fedlease.report.table_text import cell_text, cells_of


def make(report: Report) -> Html:
    """The table of every set of runs with the same clients; below it the paper's."""
    made: list[Child] = [_by_group(runs) for runs in report.together()]
    if not report.alone:
        made.append(_compared(report))
    return both(*made)


def _by_group(runs: Sequence[Shown]) -> Html:
    first = runs[0]
    columns = [Column("run", number=False), Column("round")]
    columns += [Column(f"{name} ({len(members)})") for name, members in groups(first.record).items()]
    columns += [Column("mean of clients")]
    caption = (
        f"{capital(first.metric)} in the last scored round, in percent: mean over the clients of each group"
    )
    return table(caption, columns, [_row(run) for run in runs])


def _row(run: Shown) -> list[Child]:
    with run.reading():
        last, members = run.last, groups(run.record).values()
        scores = {} if last is None else last.scores
        values = [*(average(scores, clients) for clients in members), average(scores, scores)]
    said = [NONE if value is None else f"{value:.1f}" for value in values]
    return [[key(run), run.name], NONE if last is None else str(last.round), *said]


def _compared(report: Report) -> Html:
    try:
        made = make_table([run.entry for run in report.runs], waiting=report.waiting)
    except FedLeaseError as error:
        return paragraph(f"The runs are not compared by tests: {error}.", class_="note")
    return both(_paper(made), listed(made.notes, "notes"))


def _paper(made: Table) -> Html:
    columns, above = [Column("method", number=False)], [("", 1)]
    for section in made.sections:
        columns += [Column(column.title) for column in section.columns]
        above.append((section.name, len(section.columns)))
    rows = [[row, *_cells(made, row)] for row in made.rows]
    named = any(section.name for section in made.sections)
    return table(f"{made.title}: methods compared", columns, rows, above=above if named else ())


def _cells(made: Table, row: str) -> list[Child]:
    found: list[Child] = []
    for section in made.sections:
        for column, cell in zip(section.columns, cells_of(section, row), strict=True):
            words = cell_text(column, cell)
            found.append(tag("strong", words) if cell.best else NONE if words == "-" else words)
    return found


SECTION = Section("scores", "Scores", 20, make)
