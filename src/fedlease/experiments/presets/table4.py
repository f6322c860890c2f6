"""Table 4: ranks 2 and 6."""

from __future__ import annotations

from fedlease.experiments.presets.glue import every_method, preset
from fedlease.experiments.presets.kinds import Cell, Size


def cells(size: Size) -> tuple[Cell, ...]:
    """Every method at both ranks; methods with one adapter have twice the rank."""
    return tuple(entry for rank in (2, 6) for entry in every_method(size, f"r = {rank}", rank))


PRESET = preset("table4", "Impact of the rank", cells)
