"""Figure 6c: how many experts a token uses, by layer and client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from fedlease.report.canvas import PAGE, grow, new_figure, shorten
from fedlease.report.figures.heat import heat_map, in_groups, name_clients, part_groups
from fedlease.report.figures.registry import Picture
from fedlease.report.records import Entry
from fedlease.report.routing import by_layer, most_experts
from fedlease.report.series import one_run


def draw(entries: Sequence[Entry]) -> Figure:
    """Draw a heat map, layer by client, from a run whose record holds what its routers chose.

    Of several such runs the one with adaptive top-M and a router of the cluster is meant.
    """
    chosen = [entry for entry in entries if "routing" in entry.record]
    for wanted in (_adaptive, _shared):
        chosen = [entry for entry in chosen if wanted(entry.record["spec"]["method"])] or chosen
    needed = "a finished run with routers that tells which experts they chose (routing in its record)"
    record = one_run(chosen, lambda _: True, needed).record
    clients, spans = in_groups(record)
    layers, values = by_layer(record, clients, lambda of: float(of["experts"]))
    numbered = all(isinstance(layer, int) for layer in layers)
    width = min(PAGE, max(3.3, 1.5 + 0.3 * len(clients)))
    figure = new_figure(width, 1.1 + max(1.6, 0.15 * len(layers)))
    axes = figure.subplots()
    most = most_experts(record)
    image = heat_map(axes, values, vmin=1, vmax=most)
    part_groups(axes, spans)
    grow(figure, name_clients(axes, clients, spans, width - 1.5))
    every = 1 if len(layers) <= 30 else 4
    axes.set_yticks(range(0, len(layers), every), [shorten(str(name), 24) for name in layers[::every]])
    axes.set_ylabel("layer" if numbered else "adapted module")
    axes.set_title("experts that a token uses")
    figure.colorbar(image, ax=axes, label=f"mean number, of {most} experts", pad=0.02)
    return figure


def _adaptive(method: dict[str, Any]) -> bool:
    return method.get("top_k") is None


def _shared(method: dict[str, Any]) -> bool:
    return method.get("router") != "local"


FIGURES = (Picture("6c", "how many experts a token uses, by layer and client", draw),)
