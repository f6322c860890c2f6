"""Accuracy by round: one panel for each group of clients and one for all, one line a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from fedlease.report.canvas import OKABE_ITO, new_figure, save_figure
from fedlease.report.summary import groups, label

Record = Mapping[str, Any]
MARKERS = "os^Dv<>P"


def rounds_figure(records: Sequence[Record], path: Path) -> None:
    """Draw the mean accuracy of each group of clients after every scored round as a PNG.

    Args:
        records: runs with the same clients, a method each.
        path: the file to write, atomically.
    """
    names = [*groups(records[0]), "all clients"]
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    figure = new_figure(3.2 * columns, 2.5 * rows)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flatten()
    for axis, name in zip(axes, names, strict=False):
        for index, record in enumerate(records):
            rounds, values = _curve(record, name)
            color, marker = OKABE_ITO[index % len(OKABE_ITO)], MARKERS[index % len(MARKERS)]
            axis.plot(rounds, values, marker=marker, color=color, label=label(record), markersize=4)
        axis.set_title(name, fontsize=10)
        axis.grid(alpha=0.3)
        axis.xaxis.get_major_locator().set_params(integer=True)
    for axis in axes[len(names) :]:
        axis.axis("off")
    for axis in axes[max(0, len(names) - columns) : len(names)]:  # the lowest panel of each column
        axis.xaxis.set_tick_params(labelbottom=True)
    figure.supxlabel("communication round", fontsize=10)
    figure.supylabel("mean test accuracy (%)", fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    save_figure(figure, path)


def _curve(record: Record, name: str) -> tuple[list[int], list[float]]:
    members = groups(record).get(name, list(record["clients"]))
    scored = [entry for entry in record["rounds"] if entry["metrics"]]
    values = [100 * mean(entry["metrics"][client]["accuracy"] for client in members) for entry in scored]
    return [entry["round"] for entry in scored], values
