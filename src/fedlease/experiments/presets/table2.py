"""Table 2: how experts are allocated, and what the router adds."""

from __future__ import annotations

from fedlease.experiments.presets.glue import cell, methods, preset
from fedlease.experiments.presets.kinds import Cell, Size


def cells(size: Size) -> tuple[Cell, ...]:
    """One expert for all, one for each client, one for each cluster; the mixture or the expert alone."""
    own = methods()["FedLEASE"]
    return (
        cell("FedLoRA-Single (r = 4)", size, {"name": "fedit", "rank": 4}),
        cell("FedLoRA-Single (r = 16)", size, {"name": "fedit", "rank": 16}),
        cell("FedLoRA-Individual", size, {**own, "experts": "clients", "router": "local"}),
        cell("Cluster's expert alone", size, {**own, "router": "none"}),
        cell("FedLEASE (fixed top-2)", size, {**own, "top_k": 2}),
        cell("FedLEASE", size, own),
    )


PRESET = preset("table2", "Allocation of experts", cells)
