"""Every client: its rows, expert, loss and scores, with its way there as a small line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedlease.report.figures.heat import in_groups
from fedlease.report.page.charts.lines import Ranges, spark
from fedlease.report.page.markup import Child, Html, tag
from fedlease.report.page.parts import NONE, Column, both, table
from fedlease.report.page.registry import Section
from fedlease.report.page.shown import Report, Shown
from fedlease.report.records import capital, metric, owners, scored, scored_rows


def make(report: Report) -> Html:
    """Runs compared client by client, then a table a run."""
    compared = [_compared(runs) for runs in report.together() if len(runs) > 1]
    return both(compared, report.each(_table, fold=True))


def _compared(runs: Sequence[Shown]) -> Html:
    """A column a run: the score of every client; the best of each client stands out."""
    lasts = [{} if run.last is None else run.last.scores for run in runs]
    rows: list[list[Child]] = []
    for client in in_groups(runs[0].record)[0]:
        said = [f"{scores[client]:.1f}" if client in scores else NONE for scores in lasts]
        best = max((scores[client] for scores in lasts if client in scores), default=None)
        highest = NONE if best is None else f"{best:.1f}"
        cells = [tag("strong", words) if words == highest != NONE else words for words in said]
        rows.append([client, *cells])
    columns = [Column("client", number=False), *(Column(run.name) for run in runs)]
    caption = (
        f"{capital(runs[0].metric)} of every client in the last scored round, in percent, run beside run"
    )
    return table(caption, columns, rows, sortable=True)


def _table(run: Shown) -> Html:
    record, rounds = run.record, scored(run.record)
    main = metric(record)
    last = _last_metrics(record)
    others = list(dict.fromkeys(name for scores in last.values() for name in scores if name != main))
    ways = {
        client: [(float(found.round), found.scores[client]) for found in rounds if client in found.scores]
        for client in record["clients"]
    }
    heads = ["group", "training rows", scored_rows(record), "expert", "loss"]
    heads += [f"{run.metric} %", "best %", "by round"]
    columns = [
        Column("client", number=False),
        Column(heads[0], number=False),
        *(Column(head) for head in heads[1:-1]),
    ]
    columns += [Column(name.replace("_", " ")) for name in others] + [Column(heads[-1], number=False)]
    experts, losses = _experts(record), _losses(record)
    everything = [point for way in ways.values() for point in way]
    rows: list[list[Child]] = []
    for client in in_groups(record)[0]:
        facts, way = record["clients"][client], ways[client]
        rows.append(
            [
                client,
                facts["group"],
                _count(facts, "train_rows"),
                _count(facts, "test_rows"),
                experts.get(client, NONE),
                f"{losses[client]:.3f}" if client in losses else NONE,
                f"{way[-1][1]:.1f}" if way else NONE,
                f"{max(value for _, value in way):.1f}" if way else NONE,
                *(_other(last.get(client, {}), name) for name in others),
                spark(way, _ranges(everything)) if way else NONE,
            ]
        )
    return table(f"{run.name}: clients in their last scored round", columns, rows, sortable=True)


def _ranges(points: list[tuple[float, float]]) -> Ranges:
    xs, ys = zip(*points, strict=True)
    return Ranges((min(xs), max(xs)), (min(ys), max(ys)))


def _last_metrics(record: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Every client's metrics where it was scored last."""
    found: dict[str, dict[str, float]] = {}
    for entry in record["rounds"]:
        found |= entry["metrics"]
    return found


def _experts(record: Mapping[str, Any]) -> dict[str, str]:
    if record.get("allocation"):
        return {client: str(own) for client, own in owners(record).items()}
    return {client: str(choice) for client, choice in record.get("choices", {}).items()}


def _losses(record: Mapping[str, Any]) -> dict[str, float]:
    """The training loss of every client where it trained last."""
    found: dict[str, float] = {}
    for entry in record["rounds"]:
        found |= entry.get("loss", {})
    return found


def _count(facts: Mapping[str, Any], name: str) -> str:
    return f"{facts[name]:,}" if name in facts else NONE


def _other(scores: Mapping[str, float], name: str) -> str:
    return f"{scores[name]:.3f}" if name in scores else NONE


SECTION = Section("clients", "Clients", 40, make)
