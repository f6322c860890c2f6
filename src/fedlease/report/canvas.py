"""What every picture shares: colours, a figure without global state, an atomic PNG."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fedlease.core.files import write_bytes

# Okabe and Ito's colours, told apart by colour-blind readers, without the yellow that vanishes on white.
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7A5195")


def new_figure(width: float, height: float, layout: str | None = "constrained") -> Figure:
    """Return an empty figure of that many inches."""
    figure = Figure(figsize=(width, height), dpi=120, layout=layout)  # type: ignore[arg-type]
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG; a file already there is replaced in one step.

    Raises:
        FedLeaseError: the place cannot be written.
    """
    content = io.BytesIO()
    figure.savefig(content, format="png")
    write_bytes(path, content.getvalue())
