"""How many experts there are and whose clients are whose (section 4.1 of FedLEASE)."""

from __future__ import annotations

from collections.abc import Mapping

from fedlease.allocation import clustering
from fedlease.allocation.allocation import Allocation
from fedlease.allocation.deciding import MOST_SHARED, THRESHOLD, by_silhouette, counted, or_one
from fedlease.allocation.distances import Compared, compare
from fedlease.allocation.sketches import SIZE, Sketch, Sketched, measured
from fedlease.allocation.updates import Distance, InOrder
from fedlease.core.errors import FedLeaseError
from fedlease.core.weights import Weights

MOST_EXACT = 1000
"""Up to so many clients all is exact unless a sketch is asked for, and the distances of each pair are kept.

Beyond, exact comparison takes minutes and grows with the square of the clients.
"""


def cluster(
    weights: Mapping[str, Weights],
    *,
    max_experts: int = 8,
    num_experts: int | None = None,
    min_experts: int = 1,
    distance: Distance = "product",
    centered: bool = True,
    threshold: float = THRESHOLD,
    most_shared: float = MOST_SHARED,
    sketch: int | None = None,
    seed: int = 0,
) -> Allocation:
    """Allocate experts to clients from their LoRA weights (section 4.1 of FedLEASE).

    One average-linkage dendrogram is cut into k = 2 .. min(max_experts, N - 1) clusters; M is the k of the
    highest silhouette, the smaller k at ties. A silhouette cannot speak for k = 1, so all clients share one
    expert where even the highest is not above ``threshold`` and those M clusters have most in common too,
    see `MOST_SHARED`. Two clients have no silhouette: they share one expert, unless ``min_experts`` or
    ``num_experts`` says otherwise. Nor can it speak for k = N: clients of N different tasks look like clients
    of one, and share an expert.

    Args:
        weights: client -> ``{module}.A`` [r, d] and ``{module}.B`` [l, r]; the order does not matter. Clients
            are asked for when they are needed and let go, so a mapping that reads them then takes no more
            memory for more clients than their distances or sketches do.
        max_experts: M_max.
        num_experts: a fixed M; nothing is decided then.
        min_experts: 2 is the paper's rule, which never takes one expert.
        distance: ``"b"`` (Eq. 2) or ``"product"``, see `client_distances`.
        centered: take out the mean update of all clients first. ``distance="b", centered=False,
            min_experts=2`` is the paper to the letter.
        threshold: see `THRESHOLD`.
        most_shared: see `MOST_SHARED`.
        sketch: numbers a module by which clients are compared, see `fedlease.allocation.sketches`; 0 compares
            exactly. None is exact up to `MOST_EXACT` clients, and a sketch of `SIZE` beyond.
        seed: of the sketch.

    Raises:
        FedLeaseError: fewer than two clients, numbers of experts that cannot be, or weights that cannot be
            compared (see `client_distances`).
    """
    clients = tuple(sorted(weights))
    _check(len(clients), max_experts, num_experts, min_experts)
    ordered = InOrder(weights, clients)
    size = (SIZE if len(clients) > MOST_EXACT else 0) if sketch is None else sketch
    if size < 0:
        raise FedLeaseError(f"sketch is {size}: it must be at least 1, or 0 to compare exactly")
    compared: Compared | Sketched
    if size:
        compared = Sketched(ordered, distance, centered, size, seed)
    else:
        compared = compare(ordered, distance, centered)
    distances = compared.distances
    merges = clustering.dendrogram(distances)
    cuts = {k: clustering.cut(merges, k) for k in range(2, min(max_experts, len(clients) - 1) + 1)}
    scores = {k: clustering.silhouette(distances, labels) for k, labels in cuts.items()}
    shared = None
    if num_experts is not None:
        chosen, reason = num_experts, f"{counted(num_experts)}: the number was given"
    else:
        chosen, reason = by_silhouette(scores, min_experts)
        if min_experts == 1 and chosen > 1:
            shared = compared.share_between(cuts[chosen])
            chosen, reason = or_one(chosen, scores[chosen], shared, threshold, most_shared)
    return Allocation(
        clients=clients,
        labels=clustering.cut(merges, chosen),
        num_experts=chosen,
        scores=scores,
        distances=distances if len(clients) <= MOST_EXACT else None,
        linkage=merges,
        distance=distance,
        centered=centered,
        reason=reason,
        threshold=None if shared is None else threshold,
        shared=shared,
        sketch=measured(ordered, distance, centered, Sketch(size, seed)) if size else None,
    )


def _check(clients: int, max_experts: int, num_experts: int | None, min_experts: int) -> None:
    if clients < 2:
        raise FedLeaseError(f"allocation compares clients and got {clients}: it needs at least 2")
    if not 1 <= min_experts <= max_experts:
        raise FedLeaseError(
            f"min_experts is {min_experts}: it must be between 1 and max_experts = {max_experts}"
        )
    if num_experts is not None and not 1 <= num_experts <= clients:
        raise FedLeaseError(f"num_experts is {num_experts}: it must be between 1 and the {clients} clients")
    if num_experts is None and min_experts > clients:
        raise FedLeaseError(f"min_experts is {min_experts}, but there are only {clients} clients")
