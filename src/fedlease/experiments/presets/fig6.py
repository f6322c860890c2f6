"""Figure 6: routers averaged or local, adaptive or fixed top-k, and the experts that are used."""

from __future__ import annotations

from fedlease.experiments.presets.glue import cell, methods, preset
from fedlease.experiments.presets.kinds import Cell, Size


def cells(size: Size) -> tuple[Cell, ...]:
    """FedLEASE with other routers; 6c is drawn from the adaptive one."""
    own = methods()["FedLEASE"]
    fixed = tuple(cell(f"top-{k}", size, {**own, "top_k": k}) for k in (1, 2, 3, 4))
    return (
        cell("adaptive top-M", size, own),
        cell("local routers", size, {**own, "router": "local"}),
        *fixed,
    )


PRESET = preset("fig6", "Routers: aggregation, adaptivity, experts used", cells)
