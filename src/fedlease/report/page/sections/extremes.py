"""Worst and best clients: how far apart the clients of a run end."""

from __future__ import annotations

from statistics import fmean, pstdev

from fedlease.report.page.charts.bars import Strip, strips
from fedlease.report.page.markup import Child, Html
from fedlease.report.page.parts import NONE, Column, both, figure, paragraph, table
from fedlease.report.page.registry import Section
from fedlease.report.page.shown import Report, Shown, key


def make(report: Report) -> Html:
    """A dot a client for every run with the same metric, and the table of the ends."""
    made: list[Child] = []
    for name in dict.fromkeys(run.metric for run in report.runs if run.last):
        runs = [run for run in report.runs if run.metric == name and run.last]
        rows = [Strip(run.name, _sorted(run), run.style) for run in runs]
        said = "; ".join(
            f"{run.name} from {_name(_sorted(run)[0])} to {_name(_sorted(run)[-1])}" for run in runs
        )
        alt = f"{name} of every client in the last scored round, a line of dots a run: {said}."
        made.append(
            figure(f"A dot a client, the bar their mean: {name} (%)", strips(rows, alt, f"{name} (%)"))
        )
    if not made:
        return paragraph("No client is scored yet.", class_="note")
    heads = ("worst client", "its score %", "best client", "its score %", "apart", "mean %", "deviation")
    columns = [Column("run", number=False), *(Column(head, "client" not in head) for head in heads)]
    caption = "Worst and best client of every run, and the standard deviation over its clients"
    return both(*made, table(caption, columns, [_row(run) for run in report.runs]))


def _sorted(run: Shown) -> list[tuple[str, float]]:
    """Clients from worst to best."""
    scores = {} if run.last is None else run.last.scores
    return sorted(scores.items(), key=lambda item: (item[1], item[0]))


def _name(found: tuple[str, float]) -> str:
    return f"{found[0]} ({found[1]:.1f})"


def _row(run: Shown) -> list[Child]:
    found = _sorted(run)
    if not found:
        return [[key(run), run.name], *[NONE] * 7]
    (worst, low), (best, high) = found[0], found[-1]
    values = [value for _, value in found]
    spread = (f"{high - low:.1f}", f"{fmean(values):.1f}", f"{pstdev(values):.1f}")
    return [[key(run), run.name], worst, f"{low:.1f}", best, f"{high:.1f}", *spread]


SECTION = Section("extremes", "Worst and best client", 50, make)
