"""The paper's tables as data: rows, sections, columns and cells, computed from entries alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fedlease.core.errors import FedLeaseError
from fedlease.report.gather import Part, Row, gather
from fedlease.report.records import Entry, Record, average, capital, score_title
from fedlease.report.statistics import Comparison, Summary, compare, summary
from fedlease.report.table_notes import notes_of

Kind = Literal["parameters", "experts", "group", "average", "groups", "difference", "p"]
RANKED: tuple[Kind, ...] = ("group", "average", "groups", "difference")
"""The columns in which the best value stands out."""

DECIMALS = 2


@dataclass(frozen=True)
class Column:
    """A column of a section.

    Attributes:
        kind: ``"parameters"`` is trained in percent of the base; ``"groups"`` the mean over groups, where
            that differs from the ``"average"`` over clients; ``"difference"`` and ``"p"`` are to the row
            of reference.
        title: its heading.
        clients: how many clients it stands for; 0 where it is not about clients.
    """

    kind: Kind
    title: str
    clients: int = 0


@dataclass(frozen=True)
class Cell:
    """What stands in a column of a row: a value over seeds, or a comparison, or neither."""

    value: Summary | None = None
    best: bool = False
    comparison: Comparison | None = None


@dataclass(frozen=True)
class Section:
    """Columns that belong together, e.g. of one rank.

    Attributes:
        name: empty where there is only one.
        columns: its columns.
        rows: the cells of every row of this section, one a column.
        runner_up: the best row against the best row of another method.
    """

    name: str
    columns: tuple[Column, ...]
    rows: Mapping[str, tuple[Cell, ...]]
    runner_up: Comparison | None


@dataclass(frozen=True)
class Table:
    """A table, ready to be shown in any format.

    Attributes:
        title: what it shows.
        rows: the names of all rows, in order; a section may lack some.
        sections: side by side.
        notes: sentences below it: what was measured and compared, what is missing.
    """

    title: str
    rows: tuple[str, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...]


def make_table(
    entries: Sequence[Entry], against: str | None = None, title: str = "", waiting: Sequence[str] = ()
) -> Table:
    """Compute a table from runs.

    Args:
        entries: the runs; incomplete ones are left out and named in a note.
        against: the row that others are compared with; None is FedIT, if it is there.
        title: what the table shows; empty names the metric.
        waiting: runs that belong to the table and have no record yet, to be named in a note.

    Raises:
        FedLeaseError: no run is complete, no such row, or rows that cannot be compared; see `gather`.
    """
    parts = gather(entries)
    rows = tuple(dict.fromkeys(row for part in parts for row in part.rows))
    reference = _reference(parts, rows, against)
    experts = any(record.get("allocation") for part in parts for record in _records(part))
    sections = tuple(_section(part, reference, experts) for part in parts)
    name = capital(score_title(record for part in parts for record in _records(part)))
    runners_up = [section.runner_up for section in sections]
    notes = notes_of(parts, entries, reference, [_comparisons(s) for s in sections], runners_up, waiting)
    return Table(title or f"{name} (%)", rows, sections, notes)


def _records(part: Part) -> Iterator[Record]:
    return (record for row in part.rows.values() for record in row.records.values())


def _reference(parts: Sequence[Part], rows: Sequence[str], against: str | None) -> str | None:
    if against is not None:
        alike = [row for row in rows if row == against] or [r for r in rows if r.lower() == against.lower()]
        if not alike:
            raise FedLeaseError(f"--against {against}: there is no such row; there are: {', '.join(rows)}")
        return alike[0]
    named = [row for row in rows if row.lower() == "fedit"]
    methods = {row: found.method for part in parts for row, found in part.rows.items()}
    return next(iter(named + [row for row in rows if methods[row] == "fedit"]), None)


def _section(part: Part, reference: str | None, experts: bool) -> Section:
    sizes = {name: len(clients) for name, clients in part.groups.items()}
    columns = [Column("parameters", "% Param")]
    columns += [Column("experts", "experts")] if experts else []
    columns += [Column("group", f"{name} ({size})", size) for name, size in sizes.items()]
    columns += [Column("average", "average", sum(sizes.values()))]
    if len(set(sizes.values())) > 1:
        columns += [Column("groups", "mean of groups", sum(sizes.values()))]
    if reference is not None:
        columns += [Column("difference", "Δ", sum(sizes.values())), Column("p", "p")]
    other = None if reference is None else part.rows.get(reference)
    rows = {name: _cells(row, part, columns, other) for name, row in part.rows.items()}
    if len({frozenset(row.scores) for row in part.rows.values()}) == 1:  # else luck with seeds would choose
        rows = _with_best(columns, rows)
    return Section(part.name, tuple(columns), rows, _runner_up(part))


def _cells(row: Row, part: Part, columns: Sequence[Column], reference: Row | None) -> tuple[Cell, ...]:
    """The cells of a row: a mean over clients for each seed first, then over seeds."""
    every = [client for clients in part.groups.values() for client in clients]
    compared = None
    if reference is not None and reference is not row:
        compared = compare(row.name, row.scores, reference.name, reference.scores)
    groups = iter(part.groups.values())
    cells = []
    for column in columns:
        match column.kind:
            case "parameters":
                cells.append(Cell(_over([_percent(record) for record in row.records.values()])))
            case "experts":
                cells.append(Cell(_over([_experts(record) for record in row.records.values()])))
            case "group":
                clients = next(groups)
                cells.append(Cell(_over([average(scores, clients) for scores in row.scores.values()])))
            case "average":
                cells.append(Cell(_over([average(scores, every) for scores in row.scores.values()])))
            case "groups":
                cells.append(Cell(_over([_of_groups(scores, part) for scores in row.scores.values()])))
            case "difference":
                cells.append(Cell(compared.difference if compared else None, comparison=compared))
            case "p":
                cells.append(Cell(comparison=compared))
    return tuple(cells)


def _over(values: Sequence[float | None]) -> Summary | None:
    return summary([value for value in values if value is not None])


def _percent(record: Record) -> float | None:
    """Trained in percent of the base; None in records that do not tell."""
    told = record.get("parameters")
    return None if told is None else 100 * sum(told["trained"].values()) / told["base"]


def _experts(record: Record) -> float | None:
    allocation = record.get("allocation")
    return None if not allocation else float(allocation["num_experts"])


def _of_groups(scores: Mapping[str, float], part: Part) -> float | None:
    """The mean over the groups' means; None when a group has no score, which would shift it."""
    means = [average(scores, clients) for clients in part.groups.values()]
    known = [value for value in means if value is not None]
    return sum(known) / len(known) if len(known) == len(means) else None


def _with_best(
    columns: Sequence[Column], rows: Mapping[str, tuple[Cell, ...]]
) -> dict[str, tuple[Cell, ...]]:
    """Mark the best value of each column, as it is shown: equal numbers stand out alike."""
    highest: list[float | None] = []
    for place, column in enumerate(columns):
        values = [rounded(cells[place].value) for cells in rows.values()]
        known = [value for value in values if value is not None] if column.kind in RANKED else []
        top = max(known, default=None) if len(rows) > 1 else None
        if top is not None and column.kind == "difference" and top <= 0:
            top = None  # the reference itself is best
        highest.append(top)
    return {
        name: tuple(
            replace(cell, best=top is not None and rounded(cell.value) == top)
            for cell, top in zip(cells, highest, strict=True)
        )
        for name, cells in rows.items()
    }


def rounded(value: Summary | None) -> float | None:
    """A score as it is shown; None for none."""
    return None if value is None else round(value.mean, DECIMALS)


def _runner_up(part: Part) -> Comparison | None:
    """The row with the best average against the best one of another method; None without two methods."""
    common = set.intersection(*(set(row.scores) for row in part.rows.values())) if part.rows else set()
    shared = {  # the seeds that all rows have, else luck with seeds would rank them
        name: {seed: scores for seed, scores in row.scores.items() if seed in common}
        for name, row in part.rows.items()
    }
    averages = {
        name: _over([average(scores, scores) for scores in seeds.values()]) for name, seeds in shared.items()
    }
    ranked = [name for name, found in averages.items() if found is not None]
    ranked.sort(key=lambda name: -averages[name].mean)  # type: ignore[union-attr]
    best = part.rows[ranked[0]] if ranked else None
    others = [part.rows[name] for name in ranked if best and part.rows[name].method != best.method]
    if best is None or not others:
        return None
    other = others[0].name
    return compare(best.name, shared[best.name], other, shared[other])


def _comparisons(section: Section) -> list[Comparison]:
    found = (cells[-1].comparison for cells in section.rows.values())
    return [comparison for comparison in found if comparison is not None]
