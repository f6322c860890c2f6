"""Figure 7: how clients cluster."""

from __future__ import annotations

from fedlease.experiments.presets.glue import cell, methods, preset
from fedlease.experiments.presets.kinds import Cell, Size


def cells(size: Size) -> tuple[Cell, ...]:
    """FedLEASE as it is."""
    return (cell("FedLEASE", size, methods()["FedLEASE"]),)


PRESET = preset("fig7", "Clustering of the clients", cells)
