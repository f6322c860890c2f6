"""A client that comes after experts were allocated: it is given the expert whose centre it is nearest to.

A cluster's centre is the mean update of its clients, kept from the time of the decision. A newcomer is
compared with the M centres under the decision's own distance, with the same mean taken out: O(M) comparisons,
however many clients there were. Distances, dendrogram and silhouettes stay as they were, so nobody else
changes expert.

The mean of products B A is kept in factors. Their rank is that of all the products together, or less where
fewer ranks give the same up to `TOLERANCE`. Where clients were sketched, or that rank would be above
`MOST_RANKS`, centres and newcomers are sketched: so a centre takes no more room with more clients.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fedlease.allocation.allocation import Allocation
from fedlease.allocation.distances import cosines, inner_products
from fedlease.allocation.sketches import SIZE, Sketch, Sketcher, sketches
from fedlease.allocation.updates import (
    Distance,
    InOrder,
    Matrix,
    Update,
    check_alike,
    update_of,
    updates_of,
)
from fedlease.core.errors import FedLeaseError
from fedlease.core.weights import Weights, module, part

TOLERANCE = 1e-5
"""What of a mean product may be lost by keeping it in few ranks, as a share of its Frobenius norm."""

MOST_RANKS = 64
"""Ranks of a mean product that are kept as factors: eight clients of rank 4, with what they learned later."""


@dataclass(frozen=True)
class Centre:
    """The mean update of an expert's clients when experts were allocated.

    Attributes:
        clients: how many there were.
        weights: float32, ``{module}.B`` [l, R], and ``{module}.A`` [R, d] where the distance is that of
            products; then B A is the mean. Where the allocation was by sketches, ``{module}.sketch`` [s] is
            that of the mean, and ``{module}.shape`` int64 [2] is l and d, or l and r where B alone counts.
            The same where factors would have too many ranks.
        products: inner products with every expert's centre, float64 [modules, M], modules in the order of
            their names: computed once, so that for a newcomer centres are not compared with each other.
            None with sketches, and in what was written before they were kept.
        drawn: size and seed of the sketches, where clients were compared exactly; else empty.
    """

    clients: int
    weights: Weights
    products: Tensor | None = None
    drawn: tuple[int, ...] = ()


def centres(weights: Mapping[str, Weights], allocation: Allocation) -> tuple[Centre, ...]:
    """Return the centre of every expert, in the order of experts.

    Args:
        weights: what the allocation was made from, see `cluster`.
        allocation: the decision.

    Raises:
        FedLeaseError: weights that cannot be compared.
    """
    distance: Distance = "b" if allocation.distance == "b" else "product"
    if allocation.sketch:
        return _sketched_centres(weights, allocation, distance, allocation.sketch)
    if _ranks(weights, allocation, distance) > MOST_RANKS:
        drawn = Sketch(SIZE, 0)
        made = _sketched_centres(weights, allocation, distance, drawn)
        return tuple(replace(centre, drawn=(drawn.size, drawn.seed)) for centre in made)
    found = []
    for expert in range(allocation.num_experts):
        pairs = zip(allocation.clients, allocation.labels, strict=True)
        members = {client: weights[client] for client, own in pairs if own == expert}
        first, own = next(iter(members.items()))
        kept = {}
        for name in sorted(updates_of(first, own, distance)):
            b, a = _mean([update_of(client, held, name, distance) for client, held in members.items()])
            kept[f"{name}.B"] = torch.from_numpy(b.astype(np.float32))
            if a is not None:
                kept[f"{name}.A"] = torch.from_numpy(a.astype(np.float32))
        found.append(Centre(len(members), kept))
    held = [updates_of(f"expert {j}", centre.weights, distance) for j, centre in enumerate(found)]
    grams = np.stack([_between(held, name) for name in sorted(held[0])])  # [modules, M, M]
    return tuple(
        replace(centre, products=torch.tensor(products))
        for centre, products in zip(found, grams.swapaxes(0, 1), strict=True)
    )


def distances_to(
    weights: Weights,
    known: Sequence[Centre],
    distance: Distance = "product",
    centered: bool = True,
    sketch: Sketch | None = None,
) -> Matrix:
    """Return how far a newcomer is from every centre, float64 [M]: the mean over modules of 1 - cosine.

    ``centered`` takes out the mean of all clients that were there, which is the mean of the centres by their
    numbers of clients. Where nothing is left of a centre or of the newcomer, the cosine counts as 0.
    ``sketch`` is the allocation's; centres that were sketched apart from it know theirs.

    Raises:
        FedLeaseError: the newcomer adapts other modules or shapes, or sent numbers that are not finite.
    """
    updates = {f"expert {j}": _update_of(f"expert {j}", centre, distance) for j, centre in enumerate(known)}
    updates["the newcomer"] = updates_of("the newcomer", weights, distance)
    check_alike(updates, same_rank=distance == "b")
    counts = np.array([*(centre.clients for centre in known), 0], dtype=np.float64)
    total = np.zeros(len(known))
    modules = 0
    *there, newcomer = updates.values()
    if sketch is None and known[0].drawn:
        sketch = Sketch(*known[0].drawn)
    grams = _sketched_grams(newcomer, known, sketch) if sketch else _grams(newcomer, there, known)
    for gram in grams:
        modules += 1
        scale = float(np.diag(gram).mean())
        if centered:
            gram = _around(gram, counts / counts.sum())
        total += 1 - cosines(gram, scale)[-1, :-1]
    distances: Matrix = np.clip(total / modules, 0.0, 2.0)
    return distances


def join(allocation: Allocation, known: Sequence[Centre], newcomers: Mapping[str, Weights]) -> Allocation:
    """Return the allocation with newcomers in it, each with the expert it is nearest to, the first at ties.

    Args:
        allocation: as it is so far.
        known: the centres of its experts.
        newcomers: client -> weights such as those that were compared, see `cluster`.

    Raises:
        FedLeaseError: a client that has an expert already, or weights that cannot be compared.
    """
    if len(known) != allocation.num_experts:
        raise FedLeaseError(f"{len(known)} centres are not those of {allocation.num_experts} experts")
    distance: Distance = "b" if allocation.distance == "b" else "product"
    for client in sorted(newcomers):
        far = distances_to(newcomers[client], known, distance, allocation.centered, allocation.sketch)
        allocation = allocation.joined(client, int(np.argmin(far)))
    return allocation


def _grams(
    newcomer: Mapping[str, Update], there: Sequence[Mapping[str, Update]], known: Sequence[Centre]
) -> Iterator[Matrix]:
    """Yield the inner products of centres and newcomer by module, float64 [M + 1, M + 1]."""
    kept = [centre.products.numpy() for centre in known if centre.products is not None]
    for row, name in enumerate(sorted(newcomer)):
        gram = np.empty((len(known) + 1, len(known) + 1))
        whole = len(kept) == len(known)
        gram[:-1, :-1] = np.stack([products[row] for products in kept]) if whole else _between(there, name)
        own = [newcomer[name]]
        gram[-1] = inner_products(own, [*(updates[name] for updates in there), *own])[0]
        gram[:-1, -1] = gram[-1, :-1]
        yield gram


def _between(there: Sequence[Mapping[str, Update]], name: str) -> Matrix:
    held = [updates[name] for updates in there]
    return inner_products(held, held)


def _ranks(weights: Mapping[str, Weights], allocation: Allocation, distance: Distance) -> int:
    """The most ranks that a mean of products could have, over experts and modules; 0 where B is compared.

    Nobody is read any more once it is above `MOST_RANKS`.
    """
    if distance == "b":
        return 0
    most = 0
    for expert in range(allocation.num_experts):
        total: dict[str, int] = {}
        for client, own in zip(allocation.clients, allocation.labels, strict=True):
            if own != expert:
                continue
            for name, (b, a) in updates_of(client, weights[client], distance).items():
                assert a is not None
                total[name] = min(total.get(name, 0) + b.shape[1], len(b), a.shape[1])
            if (most := max(most, *total.values())) > MOST_RANKS:
                return most
    return most


def _sketched_centres(
    weights: Mapping[str, Weights], allocation: Allocation, distance: Distance, sketch: Sketch
) -> tuple[Centre, ...]:
    """Return the mean sketch of every expert's clients, each read once."""
    first = updates_of(allocation.clients[0], weights[allocation.clients[0]], distance)
    sketcher = Sketcher(first, sketch.size, sketch.seed)
    sums = np.zeros((allocation.num_experts, sketcher.width))
    made = sketches(InOrder(weights, allocation.clients), distance, sketcher)
    for own, numbers in zip(allocation.labels, made, strict=True):
        sums[own] += numbers
    shapes = {
        f"{name}.shape": torch.tensor([len(b), b.shape[1] if a is None else a.shape[1]])
        for name, (b, a) in first.items()
    }
    found = []
    for total, count in zip(sums, np.bincount(allocation.labels).tolist(), strict=True):
        parts = sketcher.by_module((total / count).astype(np.float32))
        kept = {f"{name}.sketch": torch.tensor(numbers) for name, numbers in parts.items()}
        found.append(Centre(count, {**kept, **shapes}))
    return tuple(found)


def _sketched_grams(
    newcomer: Mapping[str, Update], known: Sequence[Centre], sketch: Sketch
) -> Iterator[Matrix]:
    """Yield the inner products of centres and newcomer by module, float64 [M + 1, M + 1]."""
    sketcher = Sketcher(newcomer, sketch.size, sketch.seed)
    for name, own in sketcher.by_module(sketcher(newcomer)).items():
        rows = np.stack([*(centre.weights[f"{name}.sketch"].numpy() for centre in known), own])
        yield rows.astype(np.float64) @ rows.T.astype(np.float64)


def _update_of(name: str, centre: Centre, distance: Distance) -> dict[str, Update]:
    """Return a centre by module; of a sketched one something of its shapes that takes no room."""
    shapes = {
        module(key): [int(length) for length in tensor]
        for key, tensor in centre.weights.items()
        if part(key) == "shape"
    }
    if not shapes:
        return updates_of(name, centre.weights, distance)

    def empty(*shape: int) -> Matrix:
        return np.broadcast_to(np.zeros(1), shape)

    if distance == "b":
        return {key: (empty(out, rank), None) for key, (out, rank) in shapes.items()}
    return {key: (empty(out, 1), empty(1, d)) for key, (out, d) in shapes.items()}


def _around(gram: Matrix, shares: Matrix) -> Matrix:
    """Return the inner products of the same vectors once their mean in these shares is taken out."""
    means = gram @ shares
    centred: Matrix = gram - (means[None, :] + means[:, None]) + shares @ means
    return centred


def _mean(updates: Sequence[Update]) -> Update:
    """Return the mean of updates of one module; of products in factors B [l, R], A [R, d]."""
    if updates[0][1] is None:
        return np.mean([b for b, _ in updates], axis=0), None
    b = np.hstack([b for b, _ in updates]) / len(updates)
    a = np.vstack([a for _, a in updates if a is not None])
    if len(updates) == 1:
        return b, a
    left, tall = np.linalg.qr(b)
    right, wide = np.linalg.qr(a.T)
    u, s, v = np.linalg.svd(tall @ wide.T)
    lost = np.sqrt(np.cumsum(s[::-1] ** 2)[::-1])  # by keeping as many as come before
    rank = max(1, int((lost > TOLERANCE * lost[0]).sum()))
    return left @ (u[:, :rank] * s[:rank]), v[:rank] @ right.T
