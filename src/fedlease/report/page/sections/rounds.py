"""The score by round: run beside run, then every client of every run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import TypeAlias

from fedlease.report.figures.heat import in_groups
from fedlease.report.page.charts.lines import Line, Ranges, legend, line_chart
from fedlease.report.page.markup import Child, Html, tag
from fedlease.report.page.parts import NONE, Column, both, details, figure, grid, paragraph, table
from fedlease.report.page.registry import Section
from fedlease.report.page.shown import Report, Shown
from fedlease.report.records import Scored, average, groups, scored

ALL = "all clients"
MOST_PANELS = 12
"""Groups that get a panel each; with more of them all clients share one."""

MOST_NAMED = 8
"""Lines that can be told apart by colour and mark."""

Points: TypeAlias = list[tuple[float, float]]


def make(report: Report) -> Html | None:
    """Panels a group: runs compared, then clients."""
    if not any(run.last for run in report.runs):
        return paragraph("No client is scored yet.", class_="note")
    compared: list[Child] = []
    ranges: dict[str, Ranges] = {}
    for runs in report.together():
        values = [way for run in runs for way in _ways(run) if way]
        if values:
            ranges |= dict.fromkeys((run.name for run in runs), _ranges(values))
            compared += [_compared(runs, _ranges(values))] if len(runs) > 1 else []
    return both(*compared, report.each(lambda run: _clients(run, ranges.get(run.name)), fold=True))


def _ways(run: Shown) -> list[Points]:
    """Every client's scores by round."""
    rounds = scored(run.record)
    return [_mean(rounds, [client]) for client in run.record["clients"]]


def _panels(run: Shown) -> dict[str, list[str]]:
    """The clients of each panel."""
    found = groups(run.record)
    everyone = {ALL: list(run.record["clients"])}
    return found if len(found) <= MOST_PANELS else everyone


def _compared(runs: Sequence[Shown], ranges: Ranges) -> Html:
    rows: dict[str, list[Shown]] = {}
    for run in runs:
        if run.last:
            rows.setdefault(run.row, []).append(run)
    rows = {row: [run for run in found if run.complete] or found for row, found in rows.items()}
    what = f"mean {runs[0].metric} (%)"
    charts = []
    for name, clients in {**_panels(runs[0]), ALL: list(runs[0].record["clients"])}.items():
        lines = [_over_seeds(found, clients, name) for name, found in rows.items()]
        lines = [line for line in lines if line.points]
        if lines:
            chart = line_chart(lines, _alt(f"{what} by round, {name}", lines), "round", ranges)
            charts.append(figure(f"{name}: {what}", chart, legend(lines, _ends(lines))))
    seeds = any(len(found) > 1 for found in rows.values())
    note = paragraph("Of several seeds: the mean over those that are complete.", class_="note")
    return tag("div", tag("h3", "Runs compared"), note if seeds else None, grid(*charts))


def _over_seeds(runs: Sequence[Shown], clients: Sequence[str], row: str) -> Line:
    """The mean over runs that differ in their seed, in the rounds in which all are scored."""
    ways = [dict(_mean(scored(run.record), clients)) for run in runs]
    rounds = sorted(set.intersection(*(set(way) for way in ways)))
    name = row if len(runs) == 1 else f"{row} ({len(runs)} seeds)"
    return Line(name, [(round, fmean(way[round] for way in ways)) for round in rounds], runs[0].style)


def _clients(run: Shown, ranges: Ranges | None) -> Html:
    rounds = scored(run.record)
    if ranges is None or not rounds:
        return paragraph(f"{run.progress}; no client is scored yet.", class_="note")
    panels = {name: _lines(rounds, members) for name, members in _panels(run).items()}
    draw = partial(line_chart, x_label="round", ranges=ranges)
    charts = [
        figure(
            f"{name}: {run.metric} (%)",
            draw(found, alt=_alt(f"{run.metric} by round of {run.name}, clients of {name}", found)),
            legend(*_legend(found)),
        )
        for name, found in panels.items()
        if found
    ]
    return both(
        grid(*charts), details(f"Every client's {run.metric} by round, as numbers", _numbers(run, rounds))
    )


def _lines(rounds: Sequence[Scored], members: Sequence[str]) -> list[Line]:
    """A line a client, and their mean on top where there are several."""
    many = len(members) > MOST_NAMED
    found = [
        Line(client, _mean(rounds, [client]), None if many else place) for place, client in enumerate(members)
    ]
    if len(members) > 1:
        found.append(Line("mean", _mean(rounds, members), None, strong=True))
    return [line for line in found if line.points]


def _mean(rounds: Sequence[Scored], clients: Sequence[str]) -> Points:
    points = [(float(found.round), average(found.scores, clients)) for found in rounds]
    return [(round, value) for round, value in points if value is not None]


def _ranges(ways: Sequence[Points]) -> Ranges:
    """What all panels show, so that they can be compared."""
    xs = [x for way in ways for x, _ in way]
    ys = [y for way in ways for _, y in way]
    margin = max((max(ys) - min(ys)) * 0.05, 1.0)
    lowest, highest = max(min(ys) - margin, 0.0), min(max(ys) + margin, 100.0)
    return Ranges((min(xs) - 0.3, max(xs) + 0.3), (lowest, highest))


def _legend(lines: Sequence[Line]) -> tuple[list[Line], list[str]]:
    """The lines that are named: with many clients the mean alone, and one for all others."""
    named = [line for line in lines if line.style is not None or line.strong]
    values = _ends(named)
    others = [line for line in lines if line not in named]
    if len(others) == 1:
        return [others[0], *named], [*_ends(others), *values]
    if others:
        named, values = [*named, Line(f"{len(others)} clients", (), None)], [*values, ""]
    return named, values


def _ends(lines: Sequence[Line]) -> list[str]:
    return [f"{line.points[-1][1]:.1f}" for line in lines]


def _alt(what: str, lines: Sequence[Line]) -> str:
    """What the lines say: where each begins and ends."""
    said = [
        f"{line.name} from {line.points[0][1]:.1f} in round {line.points[0][0]:.0f} "
        f"to {line.points[-1][1]:.1f} in round {line.points[-1][0]:.0f}"
        for line in lines
        if line.style is not None or line.strong or len(lines) == 1
    ]
    ends = [line.points[-1][1] for line in lines]
    return f"{what}: {'; '.join(said)}. The last values lie between {min(ends):.1f} and {max(ends):.1f}."


def _numbers(run: Shown, rounds: Sequence[Scored]) -> Html:
    columns = [Column("client", number=False), *(Column(str(found.round)) for found in rounds)]
    rows = [
        [client, *(f"{found.scores[client]:.1f}" if client in found.scores else NONE for found in rounds)]
        for client in in_groups(run.record)[0]
    ]
    return table(f"{run.name}: {run.metric} by round, in percent", columns, rows)


SECTION = Section("rounds", "Score by round", 30, make)
