"""Methods that the paper cites and does not compare, on the setting of its Table 1."""

from __future__ import annotations

from fedlease.experiments.presets.glue import cell, methods, preset
from fedlease.experiments.presets.kinds import Cell, Size

LIKE_FEDIT = {"flora": "FLoRA", "lora_fair": "LoRA-FAIR", "local_only": "Local only"}


def cells(size: Size) -> tuple[Cell, ...]:
    """Beside FedIT and FedLEASE; learning rates are those of the two."""
    near = [cell(row, size, {"name": name, "rank": 8}) for name, row in LIKE_FEDIT.items()]
    return (
        cell("FedIT", size, methods()["FedIT"]),
        *(Cell(entry.row, entry.spec, "fedit") for entry in near),
        Cell("HydraLoRA-style", cell("", size, {"name": "hydralora", "rank": 4}).spec, "fedlease"),
        cell("FedLEASE", size, methods()["FedLEASE"]),
    )


PRESET = preset("others", "Further methods on GLUE", cells)
