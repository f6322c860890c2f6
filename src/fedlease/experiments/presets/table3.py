"""Table 3: generation on FLAN tasks. Its runs need a task that this version does not have."""

from __future__ import annotations

from fedlease.core.errors import FedLeaseError
from fedlease.experiments.presets.glue import SIZES, trials
from fedlease.experiments.presets.kinds import Cell, Preset, Size


def cells(size: Size) -> tuple[Cell, ...]:  # noqa: ARG001
    """Refuse.

    Raises:
        FedLeaseError: always.
    """
    raise FedLeaseError("table3 generates text, and this version of fedlease trains classifiers only")


PRESET = Preset("table3", "Performance on FLAN (not in this version)", cells, trials, SIZES)
