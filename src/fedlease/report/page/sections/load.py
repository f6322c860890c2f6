"""The load of each expert: who trains it, and how much of it everyone uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedlease.report.figures.heat import in_groups
from fedlease.report.page.charts.bars import Bar, patches, stacked
from fedlease.report.page.markup import Child, Html
from fedlease.report.page.parts import NONE, Column, both, figure, paragraph, table
from fedlease.report.page.registry import Section
from fedlease.report.page.sections.experts import routed
from fedlease.report.page.shown import Report, Shown
from fedlease.report.records import owners, scored_rows
from fedlease.report.routing import load, most_experts

MOST_BARS = 96
"""Clients that get a bar each; with more of them the bars are means over the clients of an expert."""

Loads = Mapping[str, NDArray[np.float64]]


def make(report: Report) -> Html:
    """Bars and a table of every run with routers."""
    return routed(report, _one)


def _one(run: Shown) -> Html:
    clients = in_groups(run.record)[0]
    loads = {client: found for client in clients if (found := load(run.record, client)) is not None}
    names = [f"expert {expert}" for expert in range(most_experts(run.record))]
    owner = owners(run.record)
    caption = f"{run.name}: load of each expert"
    said = paragraph(
        f"Shares are those of the mean weights on the first {scored_rows(run.record)} of each client, "
        "rescaled to 1, over all adapted modules alike."
    )
    title = "Share of each expert in what a client uses"
    return both(
        said,
        table(caption, _columns(), _rows(run, names, owner, loads)),
        figure(title, _bars(owner, loads, names), patches(names)),
    )


def _columns() -> list[Column]:
    heads = ("clients", "training rows", "share over all clients %", "at its own %", "at the others %")
    return [Column("expert", number=False), *(Column(head) for head in heads)]


def _rows(run: Shown, names: Sequence[str], owner: Mapping[str, int], loads: Loads) -> list[list[Child]]:
    rows: list[list[Child]] = []
    for expert, name in enumerate(names):
        own = [client for client in loads if owner.get(client) == expert]
        others = [client for client in loads if client not in own]
        trained = sum(run.record["clients"][client].get("train_rows", 0) for client in own)
        means = (_mean(loads, list(loads), expert), _mean(loads, own, expert), _mean(loads, others, expert))
        rows.append([name, str(len(own)), f"{trained:,}", *means])
    return rows


def _mean(loads: Loads, clients: Sequence[str], expert: int) -> str:
    if not clients:
        return NONE
    return f"{100 * np.mean([loads[client][expert] for client in clients]):.1f}"


def _bars(owner: Mapping[str, int], loads: Loads, names: Sequence[str]) -> Html:
    order = sorted(loads, key=lambda client: owner.get(client, len(names)))  # stable: groups stay together
    bars = [Bar(client, loads[client].tolist()) for client in order]
    if len(bars) > MOST_BARS:
        bars = []
        for expert, name in enumerate(names):
            own = [loads[client] for client in order if owner.get(client) == expert]
            bars += [Bar(f"{name}: {len(own)}", np.mean(own, axis=0).tolist())] if own else []
    said = "; ".join(
        f"{bar.name} {100 * max(bar.values):.0f} % expert {int(np.argmax(bar.values))}" for bar in bars
    )
    alt = f"Share of each expert, a bar a client; the largest of each: {said}."
    return stacked(bars, names, alt, lambda value: f"{100 * value:.1f} %", numbered=True)


SECTION = Section("load", "Load of each expert", 90, make)
