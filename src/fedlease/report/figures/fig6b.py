"""Figure 6b: adaptive top-M against a fixed number k of experts a token."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from fedlease.core.errors import FedLeaseError
from fedlease.report.figures.bars import bars_figure
from fedlease.report.figures.registry import Picture
from fedlease.report.records import Entry
from fedlease.report.series import series


def draw(entries: Sequence[Entry]) -> Figure:
    """Draw bars by group from runs with ``method.top_k`` 1, 2, ... and without, routers not local."""
    fixed, adaptive = [], []
    for entry in entries:
        method = entry.record["spec"]["method"]
        if "router" not in method or "top_k" not in method or method["router"] == "local":
            continue
        if method["top_k"] is None:
            adaptive.append(entry._replace(row="adaptive top-M"))
        else:
            fixed.append((int(method["top_k"]), entry._replace(row=f"top-{method['top_k']}")))
    if not fixed or not adaptive:
        raise FedLeaseError("runs of fedlease with a number as method.top_k and without one are needed")
    return bars_figure(series([entry for _, entry in sorted(fixed, key=lambda pair: pair[0])] + adaptive))


FIGURES = (Picture("6b", "adaptive top-M against fixed numbers of experts", draw),)
