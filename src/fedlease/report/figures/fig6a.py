"""Figure 6a: routers averaged within a cluster against routers that each client keeps."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from fedlease.core.errors import FedLeaseError
from fedlease.report.figures.bars import bars_figure
from fedlease.report.figures.registry import Picture
from fedlease.report.records import Entry
from fedlease.report.series import series

ROWS = {"cluster": "router averaged in the cluster", "local": "router of each client"}


def draw(entries: Sequence[Entry]) -> Figure:
    """Draw bars by group from runs of adaptive top-M with routers of the cluster and with local ones."""
    found: dict[str, list[Entry]] = {kind: [] for kind in ROWS}
    for entry in entries:
        method = entry.record["spec"]["method"]
        if method.get("router") in found and method.get("top_k") is None:
            found[method["router"]].append(entry._replace(row=ROWS[method["router"]]))
    if not all(found.values()):
        raise FedLeaseError('runs of fedlease with method.router "cluster" and with "local" are needed')
    return bars_figure(series([entry for kind in found.values() for entry in kind]))


FIGURES = (Picture("6a", "routers averaged in the cluster against local ones", draw),)
