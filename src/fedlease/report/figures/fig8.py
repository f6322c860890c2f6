"""Figure 8: the average score by the number of local epochs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from matplotlib.figure import Figure

from fedlease.report.canvas import MARKERS, bare, color_of, legend_columns, new_figure
from fedlease.report.figures.registry import Picture
from fedlease.report.records import Entry, score_title
from fedlease.report.series import measure, same_clients, series


def draw(entries: Sequence[Entry]) -> Figure:
    """Draw a line a method from runs in sections ``"E = 1"``, ``"E = 2"``, ..., or by ``training.epochs``."""
    drawn = series([entry._replace(section=f"E = {_epochs(entry)}") for entry in entries])
    same_clients(drawn)
    rows = list(dict.fromkeys(one.row for one in drawn))
    width = 4.6
    columns = legend_columns(rows, width, 0.075)
    figure = new_figure(width, 2.7 + 0.18 * -(-len(rows) // columns))
    axes = figure.subplots()
    for index, row in enumerate(rows):
        points = sorted((int(one.section[4:]), measure(one)) for one in drawn if one.row == row)
        axes.errorbar(
            [epochs for epochs, _ in points],
            [value.mean for _, value in points],
            [value.deviation for _, value in points] if any(value.deviation for _, value in points) else None,
            color=color_of(index),
            marker=MARKERS[index % len(MARKERS)],
            markersize=5,
            linewidth=1.4,
            capsize=2.5,
            label=row,
        )
    axes.set_xticks(sorted({int(one.section[4:]) for one in drawn}))
    axes.set_xlabel("local epochs E in a round")
    axes.set_ylabel(f"average {score_title(run.record for one in drawn for run in one.runs)} (%)")
    axes.grid(alpha=0.3)
    axes.margins(0.06)
    bare(axes)
    figure.legend(loc="outside upper center", ncols=columns, frameon=False)
    return figure


def _epochs(entry: Entry) -> int:
    said = re.fullmatch(r"E\s*=\s*(\d+)", entry.section)
    return int(said.group(1) if said else entry.record["spec"]["training"]["epochs"])


FIGURES = (Picture("8", "average score by local epochs, a line a method", draw),)
