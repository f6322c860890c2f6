"""Figure 3: which part of an adapter tells tasks apart."""

from __future__ import annotations

from fedlease.algorithms.fedlease import FedLease
from fedlease.experiments.presets.glue import cell, clients, preset
from fedlease.experiments.presets.kinds import Cell, Size


def cells(size: Size) -> tuple[Cell, ...]:
    """Two clients with SST-2 and two with QNLI, each alone, for as long as the initial phase."""
    method = {"name": "local_only", "rank": 4}
    two = clients(size, {"sst2": 2, "qnli": 2})
    entry = cell("Local only", size, method, rounds=FedLease().warmup_rounds, clients=two)
    return (Cell(entry.row, entry.spec, "fedlease"),)


PRESET = preset("fig3", "Similarity of clients by A, B and B A", cells)
