"""Figure 2: one adapter for all against one for each client, with alike and with different tasks."""

from __future__ import annotations

from fedlease.experiments.presets.glue import TASKS, cell, clients, preset
from fedlease.experiments.presets.kinds import Cell, Size

SCENARIOS = {"Scenario 1": dict.fromkeys(TASKS, 1), "Scenario 2": {"qnli": 4}}
MOE = {"name": "fedlease", "rank": 4, "experts": "clients", "router": "local", "top_k": 2}
"""FedLoRA-MoE (section 3.3): every client's module is shared, none is averaged, routers stay home."""


def cells(size: Size) -> tuple[Cell, ...]:
    """FedIT and FedLoRA-MoE on four clients."""
    return tuple(
        cell(row, size, method, scenario, clients=clients(size, counts))
        for scenario, counts in SCENARIOS.items()
        for row, method in (("FedIT", {"name": "fedit", "rank": 8}), ("FedLoRA-MoE", MOE))
    )


PRESET = preset("fig2", "FedIT and FedLoRA-MoE in two scenarios", cells)
