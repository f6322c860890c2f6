"""The allocation: how many experts and why, who shares one, and what the server saw of the clients."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedlease.report.figures.heat import in_groups
from fedlease.report.page.charts.heat import scale_bar
from fedlease.report.page.charts.lines import silhouette_chart
from fedlease.report.page.charts.tree import MOST_CELLS, ends, tree_and_map
from fedlease.report.page.markup import Child, Html, tag
from fedlease.report.page.parts import (
    NONE,
    Column,
    both,
    counted,
    details,
    figure,
    paragraph,
    table,
)
from fedlease.report.page.registry import Section
from fedlease.report.page.shown import Report, Shown
from fedlease.report.records import Record, owners
from fedlease.report.words import some


def make(report: Report) -> Html | None:
    """What every run that parts its clients decided; the others in a sentence."""
    decided = [run for run in report.runs if "allocation" in run.record]
    told = decided + [run for run in report.runs if run not in decided and run.record.get("choices")]
    others = [run.name for run in report.runs if run not in told]
    silent = f"Nothing is told of experts: {some(others)}." if others else None
    return both(report.each(_one, told), paragraph(silent, class_="note") if silent else None)


def _one(run: Shown) -> Html:
    if "allocation" not in run.record:
        return _chosen(run)
    record, allocation = run.record, run.record["allocation"]
    chosen = allocation["num_experts"]
    scores = {int(k): float(score) for k, score in allocation["scores"].items()}
    charts: list[Child] = []
    if scores:
        said = ", ".join(f"{k}: {score:.3f}" for k, score in scores.items())
        alt = f"Mean silhouette by number of clusters: {said}. Chosen: {counted(chosen, 'expert')}."
        chart = silhouette_chart(scores, chosen, allocation.get("threshold"), alt)
        charts.append(figure("Mean silhouette S(k), the chosen k ringed", chart))
    numbers = [_silhouettes(run, scores)] if scores else []
    if allocation["distances"] is None:
        numbers.insert(0, paragraph("Of so many clients the distances are not kept."))
    else:
        charts.append(_map(run))
        numbers.insert(0, _apart(run, allocation))
    return both(
        paragraph(tag("strong", f"{_sentence(allocation['reason'])}"), " ", _how(record)),
        _members(run, allocation),
        tag("div", *charts, class_="flow"),
        details("Distances and silhouettes as numbers", *numbers),
    )


def _sentence(reason: str) -> str:
    return f"{reason[:1].upper()}{reason[1:].rstrip('.')}."


def _how(record: Record) -> str:
    allocation, method = record["allocation"], record["spec"]["method"]
    what = "the products B A" if allocation["distance"] == "product" else "the matrices B"
    mean = ", the mean over all clients taken out first" if allocation["centered"] else ""
    rounds = method.get("warmup_rounds")
    when = "" if rounds is None else f" after {counted(rounds, 'round')} in which each client trained alone"
    later = ", and what of them was learned after the first" if method.get("later") and rounds != 1 else ""
    came = sorted(allocation.get("newcomers", {}))
    joined = f" {some(came, 12)} came later, each to the expert it was nearest to." if came else ""
    rule = "" if allocation.get("threshold") is not None else _no_rule(allocation["reason"])
    whose = f"{what} of the clients' adapters{when}{later}"
    sketch = allocation.get("sketch")
    by = (
        "" if sketch is None else f" It did so by random sketches; error of a distance {sketch['error']:.4f}."
    )
    return f"The server compared {whose}: by their cosine{mean}.{by}{rule}{joined}"


def _no_rule(reason: str) -> str:
    return "" if "given" in reason else " One expert for all was not considered."


def _members(run: Shown, allocation: dict[str, Any]) -> Html:
    owner = owners(run.record)
    clients = [client for client in in_groups(run.record)[0] if client in owner]
    rows: list[list[Child]] = []
    for expert in range(allocation["num_experts"]):
        members = [client for client in clients if owner[client] == expert]
        found = [run.record["clients"][client]["group"] for client in members]
        mixed = ", ".join(f"{group} {found.count(group)}" for group in dict.fromkeys(found))
        rows.append([_patch(expert), str(len(members)), mixed, some(members, 12)])
    columns = [
        Column("expert", number=False),
        Column("clients"),
        Column("of the groups", number=False),
        Column("which", number=False),
    ]
    return table(f"{run.name}: who trains which expert", columns, rows)


def _patch(expert: int) -> list[Child]:
    return [tag("span", class_=f"key s{expert % 8}", aria_hidden="true"), str(expert)]


def _map(run: Shown) -> Html:
    allocation = run.record["allocation"]
    low, high = ends(allocation)
    inside, outside = _means(allocation)
    alt = (
        f"Dendrogram and distances of {counted(len(allocation['clients']), 'client')}: "
        f"from {low:.2f} to {high:.2f}; mean {inside} within experts, {outside} between them."
    )
    legend = scale_bar(f"{low:.2f} alike", f"{high:.2f}", "distance, 1 − cosine:")
    title = "Dendrogram (average linkage) and distances between clients, framed by expert"
    together = None
    if len(allocation["clients"]) > MOST_CELLS:
        together = paragraph("Neighbouring clients share a cell: the mean of their distances.", class_="note")
    name = f"{run.name}: dendrogram and distance map"
    return figure(title, tree_and_map(allocation, alt), legend, together, wide=name)


def _means(allocation: dict[str, Any]) -> tuple[str, str]:
    values, labels = np.asarray(allocation["distances"], dtype=float), np.asarray(allocation["labels"])
    same = labels[:, None] == labels[None, :]
    apart = ~np.eye(len(labels), dtype=bool)
    return _mean(values[same & apart]), _mean(values[~same])


def _mean(values: Any) -> str:
    return f"{values.mean():.2f}" if values.size else NONE


def _apart(run: Shown, allocation: dict[str, Any]) -> Html:
    """The mean distance between the clients of every two experts."""
    values, labels = np.asarray(allocation["distances"], dtype=float), np.asarray(allocation["labels"])
    experts = range(allocation["num_experts"])
    apart = ~np.eye(len(labels), dtype=bool)
    rows = [
        [
            f"expert {one}",
            *(_mean(values[np.outer(labels == one, labels == other) & apart]) for other in experts),
        ]
        for one in experts
    ]
    columns = [Column("", number=False), *(Column(f"expert {expert}") for expert in experts)]
    return table(f"{run.name}: mean distance between the clients of experts", columns, rows)


def _silhouettes(run: Shown, scores: dict[int, float]) -> Html:
    rows = [[str(k), f"{score:.4f}"] for k, score in scores.items()]
    columns = [Column("clusters k", number=False), Column("S(k)")]
    return table(f"{run.name}: mean silhouette by number of clusters", columns, rows)


def _chosen(run: Shown) -> Html:
    """What clients of a method chose that gives them several adapters to choose from."""
    choices = run.record["choices"]
    clients = [client for client in in_groups(run.record)[0] if client in choices]
    rows: list[list[Child]] = []
    for cluster in sorted(set(choices.values())):
        members = [client for client in clients if choices[client] == cluster]
        rows.append([str(cluster), str(len(members)), some(members, 12)])
    columns = [Column("cluster", number=False), Column("clients"), Column("which", number=False)]
    said = paragraph("No distances: every client chose the cluster's adapter of least loss on its own rows.")
    return both(said, table(f"{run.name}: clusters chosen in the last round", columns, rows))


SECTION = Section("allocation", "Allocation of experts", 60, make)
