"""Table 5: 8 and 32 clients."""

from __future__ import annotations

from fedlease.experiments.presets.glue import TASKS, clients, every_method, preset
from fedlease.experiments.presets.kinds import Cell, Size


def cells(size: Size) -> tuple[Cell, ...]:
    """Every method with two and with eight clients a task."""
    return tuple(
        entry
        for count in (2, 8)
        for entry in every_method(
            size, f"N = {4 * count}", clients=clients(size, dict.fromkeys(TASKS, count))
        )
    )


PRESET = preset("table5", "Impact of the number of clients", cells)
