"""The runs of a page: each with a name that no other has, and a place for its colour."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os.path import normpath

from fedlease.core.errors import FedLeaseError
from fedlease.report.gather import is_complete
from fedlease.report.page.markup import Html, tag
from fedlease.report.records import Entry, Record, Scored, groups, metric_title, scored
from fedlease.report.settings import told_apart

DAMAGED = (KeyError, TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError)
"""What reading a record raises that is not as a run writes it."""

MOST_OPEN = 3
"""Runs whose details are open at first."""


@dataclass(frozen=True)
class Shown:
    """A run on the page.

    Attributes:
        name: what it is called there: row, section, seed, as far as needed to tell it from the others.
        row: its name without the seed: runs that differ in their seed alone have it in common.
        style: the place of its row, from 0; it says its colour.
        entry: its record and folder.
    """

    name: str
    row: str
    style: int
    entry: Entry

    @property
    def record(self) -> Record:
        """Its record."""
        return self.entry.record

    @property
    def complete(self) -> bool:
        """Whether it came to its end."""
        return is_complete(self.entry)

    @property
    def last(self) -> Scored | None:
        """Its last scored round."""
        rounds = scored(self.record)
        return rounds[-1] if rounds else None

    @property
    def metric(self) -> str:
        """The metric's name among people."""
        return metric_title(self.record)

    @property
    def progress(self) -> str:
        """Such as ``running: 3 of 6 rounds``."""
        record = self.record
        return f"{record['status']}: {len(record['rounds'])} of {record['spec']['rounds']} rounds"

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While this is open, a record that is not as expected is refused by the run's folder."""
        try:
            yield
        except DAMAGED as error:
            what = f"{type(error).__name__} {error}"
            raise FedLeaseError(f"{normpath(self.entry.folder)}: the record is damaged: {what}") from error


@dataclass(frozen=True)
class Report:
    """What a page shows.

    Attributes:
        title: of the page.
        runs: in the order given.
        waiting: runs of a sweep without a record yet.
    """

    title: str
    runs: tuple[Shown, ...]
    waiting: tuple[str, ...] = ()

    @property
    def alone(self) -> bool:
        """Whether there is a single run."""
        return len(self.runs) == 1

    def together(self) -> list[list[Shown]]:
        """The runs with the same clients and metric, which can be drawn into one chart."""
        found: list[list[Shown]] = []
        for run in self.runs:
            for others in found:
                first = others[0]
                if groups(first.record) == groups(run.record) and first.metric == run.metric:
                    others.append(run)
                    break
            else:
                found.append([run])
        return found

    def each(
        self, make: Callable[[Shown], Html | None], among: Sequence[Shown] | None = None, fold: bool = False
    ) -> Html:
        """What there is to say of every run, side by side under their names where there are several.

        Args:
            make: what there is to say of one; None for nothing.
            among: the runs it is said of; by default all.
            fold: one below the other instead, and to be opened by hand where there are more than `MOST_OPEN`.

        Raises:
            FedLeaseError: a record that is not as expected, by the run's folder.
        """
        found = []
        for run in self.runs if among is None else among:
            with run.reading():
                made = make(run)
            if made is None:
                continue
            heading = None if self.alone else tag("h3", key(run), run.name)
            if fold and heading:
                made = tag("details", tag("summary", heading), made, open=len(self.runs) <= MOST_OPEN)
                heading = None
            found.append(tag("article", heading, made, class_="run"))
        return tag("div", found, class_="runs beside" if len(found) > 1 and not fold else "runs")


def key(run: Shown) -> Html:
    """A patch of the run's colour."""
    return tag("span", class_=f"key s{run.style % 8}", aria_hidden="true")


def report_of(entries: Sequence[Entry], title: str = "", waiting: Sequence[str] = ()) -> Report:
    """Name the runs of a page.

    Raises:
        FedLeaseError: a record that is damaged.
    """
    for entry in entries:
        with Shown("", "", 0, entry).reading():
            told_apart([entry])
            str(entry.record["spec"]["name"])
            groups(entry.record)
            scored(entry.record)
    told = told_apart(entries)
    several = len({entry.record["seed"] for entry in told}) > 1
    rows = [", ".join(filter(None, (entry.row, entry.section))) for entry in told]
    names = [
        f"{row}, seed {entry.record['seed']}" if several else row
        for row, entry in zip(rows, told, strict=True)
    ]
    places = {row: place for place, row in enumerate(dict.fromkeys(rows))}
    runs = [
        Shown(_unlike(name, names, entry), row, places[row], entry)
        for name, row, entry in zip(names, rows, told, strict=True)
    ]
    if not title:
        title = str(runs[0].record["spec"]["name"]) if len(runs) == 1 else f"{len(runs)} runs"
    return Report(title, tuple(runs), tuple(waiting))


def _unlike(name: str, names: Sequence[str], entry: Entry) -> str:
    """The name with its folder, where several runs have the same one."""
    return f"{name} ({normpath(entry.folder)})" if names.count(name) > 1 else name
