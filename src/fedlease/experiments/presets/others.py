"""Methods that the paper cites and does not compare, on the setting of its Table 1."""

from __future__ import annotations

from fedlease.experiments.presets import glue
from fedlease.experiments.presets.glue import SIZES, cell, tried_on_table1
from fedlease.experiments.presets.kinds import Cell, Preset, Size, Values

FURTHER: dict[str, Values] = {
    "FLoRA": {"name": "flora", "rank": 8},
    "LoRA-FAIR": {"name": "lora_fair", "rank": 8},
    "Local only": {"name": "local_only", "rank": 8},
    "HydraLoRA-style": {"name": "hydralora", "rank": 4},
}


def cells(size: Size) -> tuple[Cell, ...]:
    """Beside FedIT and FedLEASE."""
    known = glue.methods()
    rows = {"FedIT": known["FedIT"], **FURTHER, "FedLEASE": known["FedLEASE"]}
    return tuple(cell(row, size, method) for row, method in rows.items())


def trials(size: Size) -> dict[str, Values]:
    """Those of Table 1's methods, and the same of these."""
    return {**glue.trials(size), **{str(m["name"]): tried_on_table1(size, m) for m in FURTHER.values()}}


PRESET = Preset("others", "Further methods on GLUE", cells, trials, SIZES)
