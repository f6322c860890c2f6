"""Figure 8: local epochs."""

from __future__ import annotations

from fedlease.experiments.presets.glue import every_method, preset
from fedlease.experiments.presets.kinds import Cell, Size

EPOCHS = (1, 2, 5)


def cells(size: Size) -> tuple[Cell, ...]:
    """Every method with other numbers of local epochs."""
    training = dict(size.base["training"])
    return tuple(
        entry
        for epochs in EPOCHS
        for entry in every_method(size, f"E = {epochs}", training={**training, "epochs": epochs})
    )


PRESET = preset("fig8", "Impact of local epochs", cells)
