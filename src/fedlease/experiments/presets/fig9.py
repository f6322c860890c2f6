"""Figure 9: the labels of the clients of Table 7."""

from __future__ import annotations

from fedlease.experiments.presets.glue import cell, methods, preset
from fedlease.experiments.presets.kinds import Cell, Size
from fedlease.experiments.presets.table7 import skewed


def cells(size: Size) -> tuple[Cell, ...]:
    """The federation of Table 7, as FedLEASE ran on it."""
    return (cell("FedLEASE", size, methods()["FedLEASE"], clients=skewed(size)),)


PRESET = preset("fig9", "Label distribution of the clients", cells)
