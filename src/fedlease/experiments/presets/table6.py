"""Table 6: three unbalanced distributions of tasks over 16 clients."""

from __future__ import annotations

from fedlease.experiments.presets.glue import clients, every_method, preset
from fedlease.experiments.presets.kinds import Cell, Size

LEVELS = {
    "Least heterogeneous": {"qnli": 10, "qqp": 6},
    "Mildly heterogeneous": {"sst2": 4, "qnli": 7, "qqp": 5},
    "Most heterogeneous": {"sst2": 3, "qnli": 6, "mrpc": 2, "qqp": 5},
}


def cells(size: Size) -> tuple[Cell, ...]:
    """Every method at every level."""
    return tuple(
        entry
        for level, counts in LEVELS.items()
        for entry in every_method(size, level, clients=clients(size, counts))
    )


PRESET = preset("table6", "Impact of task heterogeneity", cells)
