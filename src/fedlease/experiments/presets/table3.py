"""Table 3: generation on FLAN tasks. Its presets are not there yet."""

from __future__ import annotations

from fedlease.core.errors import FedLeaseError
from fedlease.experiments.presets.glue import SIZES, trials
from fedlease.experiments.presets.kinds import Cell, Preset, Size


def cells(size: Size) -> tuple[Cell, ...]:  # noqa: ARG001
    """Refuse.

    Raises:
        FedLeaseError: always.
    """
    raise FedLeaseError("table3 has no preset yet: examples/flan.toml is its federation as a specification")


PRESET = Preset("table3", "Performance on FLAN (no preset yet)", cells, trials, SIZES)
