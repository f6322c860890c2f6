"""Table 8: the largest number of experts."""

from __future__ import annotations

from fedlease.experiments.presets.glue import cell, methods, preset
from fedlease.experiments.presets.kinds import Cell, Size


def cells(size: Size) -> tuple[Cell, ...]:
    """FedLEASE with M_max from 2 to 8."""
    own = methods()["FedLEASE"]
    return tuple(cell(f"M_max = {most}", size, {**own, "max_experts": most}) for most in (2, 3, 4, 8))


PRESET = preset("table8", "Impact of the expert upper bound", cells)
