"""Experts used by layer and client: Figure 6c of FedLEASE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from fedlease.report.figures.heat import in_groups
from fedlease.report.page.charts.heat import Matrix, layer_map, scale_bar
from fedlease.report.page.markup import Html, tag
from fedlease.report.page.parts import NONE, Column, both, details, figure, paragraph, table
from fedlease.report.page.registry import Section
from fedlease.report.page.shown import Report, Shown
from fedlease.report.routing import Used, by_layer, most_experts
from fedlease.report.words import some


class Map(NamedTuple):
    """What a map of layers and clients shows.

    Attributes:
        title: above it.
        unit: what the numbers are, beside the colours.
        ends: the values of the first and the last colour.
        value: of one module of one client.
    """

    title: str
    unit: str
    ends: tuple[float, float]
    value: Callable[[Used], float]


def make(report: Report) -> Html | None:
    """A map a run with routers."""
    return routed(report, _one)


def routed(report: Report, make_one: Callable[[Shown], Html]) -> Html:
    """What there is to say of every run with routers, and in a sentence which have none."""
    told = [run for run in report.runs if run.record.get("routing")]
    silent = []
    for run in report.runs:
        if run in told:
            continue
        mixture = run.record.get("allocation", {}).get("num_experts", 1) > 1
        pending = mixture and not run.complete
        silent.append(f"{run.name} ({'told at the end of a run' if pending else 'no routers in its record'})")
    said = paragraph(f"Not told: {some(silent)}.", class_="note") if silent else None
    return both(report.each(make_one, told), said)


def _one(run: Shown) -> Html:
    most = most_experts(run.record)
    wanted = Map(
        "Mean number of experts a token uses",
        f"of {most} experts:",
        (1.0, float(most)),
        lambda of: float(of["experts"]),
    )
    return layers_and_clients(run, wanted)


def layers_and_clients(run: Shown, wanted: Map) -> Html:
    """A map with its numbers, and what it says in words."""
    clients, spans = in_groups(run.record)
    found, values = by_layer(run.record, clients, wanted.value)
    layers = [f"layer {layer}" if isinstance(layer, int) else layer for layer in found]
    words = _words(values, layers, clients)
    chart = layer_map(
        values, layers, clients, spans, wanted.ends, f"{wanted.title}, by layer and client. {words}"
    )
    name = f"{run.name}: {wanted.title}, by layer and client"
    legend = scale_bar(f"{wanted.ends[0]:.3g}", f"{wanted.ends[1]:.3g}", wanted.unit)
    return both(
        tag(
            "div",
            figure(f"{wanted.title}, by layer and client", chart, legend, wide=name),
            paragraph(words),
            class_="flow",
        ),
        details(f"{wanted.title}, as numbers", _numbers(name, values, layers, clients)),
    )


def _words(values: Matrix, layers: Sequence[str], clients: Sequence[str]) -> str:
    known = ~np.isnan(values)
    rows = [float(values[row][known[row]].mean()) for row in range(len(layers))]
    columns = {
        client: float(values[:, at][known[:, at]].mean())
        for at, client in enumerate(clients)
        if known[:, at].any()
    }
    least, most = min(columns, key=lambda c: columns[c]), max(columns, key=lambda c: columns[c])
    low, high = int(np.argmin(rows)), int(np.argmax(rows))
    return (
        f"The mean is {values[known].mean():.2f}: from {rows[low]:.2f} in {layers[low]} to {rows[high]:.2f} "
        f"in {layers[high]}, and from {columns[least]:.2f} at {least} to {columns[most]:.2f} at {most}."
    )


def _numbers(caption: str, values: Matrix, layers: Sequence[str], clients: Sequence[str]) -> Html:
    columns = [Column("client", number=False), *(Column(layer) for layer in layers)]
    rows = [
        [client, *(NONE if np.isnan(value) else f"{value:.2f}" for value in values[:, at])]
        for at, client in enumerate(clients)
    ]
    return table(caption, columns, rows)


SECTION = Section("experts", "Experts used", 70, make)
