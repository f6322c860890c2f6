"""Table 1: all methods on four GLUE tasks, 16 clients."""

from __future__ import annotations

from fedlease.experiments.presets.glue import every_method, preset
from fedlease.experiments.presets.kinds import Cell, Size


def cells(size: Size) -> tuple[Cell, ...]:
    """Every method once."""
    return every_method(size)


PRESET = preset("table1", "Performance on GLUE", cells)
