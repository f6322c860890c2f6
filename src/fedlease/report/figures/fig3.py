"""Figure 3: how alike clients are, by A, by B, by the update B A, and by B A without what all share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedlease.allocation.distances import center, cosines, inner_products
from fedlease.allocation.updates import Update
from fedlease.core.errors import FedLeaseError
from fedlease.core.weights import Weights, module
from fedlease.report.canvas import LETTER, PAGE, grow, new_figure
from fedlease.report.figures.heat import NAME, Matrix, heat_map, in_groups, name_clients, part_groups
from fedlease.report.figures.registry import Picture
from fedlease.report.records import Entry
from fedlease.report.series import one_run
from fedlease.tuner.export import read_lora

TITLES = {"A": "A", "B": "B", "BA": "B A", "centered": "B A without the clients' mean"}
FEW = 6
"""Up to so many clients the cosines are written into the cells."""


def draw(entries: Sequence[Entry]) -> Figure:
    """Draw four heat maps, client by client, from the adapters of clients that trained alone."""
    entry = one_run(
        entries,
        lambda entry: entry.record["spec"]["method"]["name"] == "local_only",
        "a run of local_only, whose clients have adapters of their own,",
    )
    clients, spans = in_groups(entry.record)
    found = similarities({client: read_lora(entry.folder / "adapters" / client) for client in clients})
    side = (PAGE - 0.6 - LETTER * min(NAME, max(map(len, clients))) - 2 * 0.6) / 2
    figure = new_figure(PAGE, 2 * side + 1.2)
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    for axis, (what, values) in zip(axes.flatten(), found.items(), strict=True):
        _panel(axis, values)
        axis.set_title(f"cosine of {TITLES[what]}")
        part_groups(axis, spans, both=True)
    more = 0.0
    for row in range(2):
        name_clients(axes[row, 0], clients, spans, side, "y")
        more = name_clients(axes[1, row], clients, spans, side, "x")
    grow(figure, more)
    return figure


def similarities(weights: Mapping[str, Weights]) -> dict[str, Matrix]:
    """Return the cosines between clients' LoRA matrices, the mean over modules: float64 [N, N].

    Args:
        weights: client -> ``{module}.A`` [r, d] and ``{module}.B`` [l, r] of plain LoRA adapters.

    Returns:
        ``"A"`` and ``"B"``, of the flattened matrices; ``"BA"``, of the updates; ``"centered"``, of the
        updates once their mean over clients is taken out. Where a matrix is zero its cosines are 0.

    Raises:
        FedLeaseError: clients that adapt different modules.
    """
    first, *_ = weights.values()
    if any(held.keys() != first.keys() for held in weights.values()):
        raise FedLeaseError("the clients' adapters are of different modules")
    names = sorted({module(name) for name in first})
    totals = {what: np.zeros((len(weights), len(weights))) for what in TITLES}
    for name in names:
        A = [held[f"{name}.A"].double().numpy() for held in weights.values()]
        B = [held[f"{name}.B"].double().numpy() for held in weights.values()]
        updates: Sequence[Update] = list(zip(B, A, strict=True))
        product = inner_products(updates, updates)
        for what, gram, norms in (
            ("A", flat := _flat(A), flat),
            ("B", flat := _flat(B), flat),
            ("BA", product, product),
            ("centered", center(product), product),
        ):
            totals[what] += cosines(gram, float(np.diag(norms).mean()))
    return {what: total / len(names) for what, total in totals.items()}


def _flat(matrices: Sequence[Matrix]) -> Matrix:
    """The inner products of matrices as they are."""
    return inner_products([(one, None) for one in matrices], [(one, None) for one in matrices])


def _panel(axes: Axes, values: Matrix) -> None:
    """Colour a matrix of cosines by what is off its diagonal, which is 1 whatever the clients are."""
    apart = values[~np.eye(len(values), dtype=bool)] if len(values) > 1 else values
    image = heat_map(axes, values, vmin=float(apart.min()), vmax=float(apart.max()))
    axes.figure.colorbar(image, ax=axes, extend="max", fraction=0.05, pad=0.02)
    if len(values) > FEW:
        return
    middle = (apart.min() + apart.max()) / 2
    for (row, column), value in np.ndenumerate(values):
        color = "black" if value > middle else "white"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=color, fontsize=8)


FIGURES = (Picture("3", "cosine similarity among clients by A, by B, by B A, and centred", draw),)
