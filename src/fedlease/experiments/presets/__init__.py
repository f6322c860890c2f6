"""The paper's tables and figures as lists of runs; a file in this folder that names a ``PRESET`` is found."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache

from fedlease.core.errors import FedLeaseError
from fedlease.experiments.presets.kinds import Preset

DRAWINGS = {"fig1": "Figure 1", "fig5": "Figure 5"}
"""Figures of the paper that show no measurement."""


@cache
def presets() -> Mapping[str, Preset]:
    """Every preset by name, tables first."""
    found = {}
    for info in pkgutil.iter_modules(__path__):
        preset = getattr(importlib.import_module(f"{__name__}.{info.name}"), "PRESET", None)
        if preset is not None:
            found[preset.name] = preset
    return dict(sorted(found.items(), key=lambda item: (not item[0].startswith("table"), item[0])))


def find(name: str) -> Preset:
    """Return the preset of that name.

    Raises:
        FedLeaseError: there is none; the message lists those there are.
    """
    if name in DRAWINGS:
        raise FedLeaseError(f"{DRAWINGS[name]} of the paper is a drawing: there is nothing to run")
    try:
        return presets()[name]
    except KeyError:
        raise FedLeaseError(f"there is no preset {name!r}; there are: {', '.join(presets())}") from None
