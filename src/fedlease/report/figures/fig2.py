"""Figure 2: one shared LoRA against a mixture of everyone's, with different tasks and with one."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from fedlease.report.figures.bars import bars_figure
from fedlease.report.figures.registry import Picture
from fedlease.report.records import Entry
from fedlease.report.series import series


def draw(entries: Sequence[Entry]) -> Figure:
    """Draw a panel a section (``"Scenario 1"``, ``"Scenario 2"``), a colour a method."""
    return bars_figure(series(entries), by_client=True)


FIGURES = (Picture("2", "FedIT against FedLoRA-MoE, with different tasks and with one", draw),)
