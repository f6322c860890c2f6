"""Table 7: clients of one task differ in how many rows of each label they have (Fig. 9)."""

from __future__ import annotations

from typing import Any

from fedlease.experiments.presets.glue import clients, every_method, preset
from fedlease.experiments.presets.kinds import Cell, Size

SHARES = [[0.9, 0.1], [0.7, 0.3], [0.3, 0.7], [0.1, 0.9]]
"""Of labels 0 and 1, for the four clients of a task: the paper shows its own as a picture without numbers."""


def cells(size: Size) -> tuple[Cell, ...]:
    """Every method."""
    return every_method(size, clients=skewed(size))


def skewed(size: Size) -> list[dict[str, Any]]:
    """The clients: of the rows of a task each label has half, and MRPC has but 1,194 of its label 0."""
    return clients(size, mrpc=2000, split={"by": "classes", "shares": SHARES})


PRESET = preset("table7", "Performance under non-IID labels", cells)
