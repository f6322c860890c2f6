"""Figure 4: every client has its own best number of experts."""

from __future__ import annotations

from fedlease.experiments.presets.glue import TASKS, cell, clients, preset
from fedlease.experiments.presets.kinds import Cell, Size


def cells(size: Size) -> tuple[Cell, ...]:
    """FedLoRA-MoE on four clients with a task each, top-2 to top-4."""
    moe = {"name": "fedlease", "rank": 4, "experts": "clients", "router": "local"}
    four = clients(size, dict.fromkeys(TASKS, 1))
    return tuple(cell(f"top-{k}", size, {**moe, "top_k": k}, clients=four) for k in (2, 3, 4))


PRESET = preset("fig4", "FedLoRA-MoE by number of experts used", cells)
