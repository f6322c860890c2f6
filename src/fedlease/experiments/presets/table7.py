"""Table 7: clients of one task differ in how many rows of each label they have (Fig. 9)."""

from __future__ import annotations

from fedlease.experiments.presets.glue import clients, every_method, preset
from fedlease.experiments.presets.kinds import Cell, Size

SHARES = [[0.9, 0.1], [0.7, 0.3], [0.3, 0.7], [0.1, 0.9]]
"""Of labels 0 and 1, for the four clients of a task: the paper shows its own as a picture without numbers."""


def cells(size: Size) -> tuple[Cell, ...]:
    """Every method."""
    return every_method(size, clients=clients(size, split={"by": "classes", "shares": SHARES}))


PRESET = preset("table7", "Performance under non-IID labels", cells)
