"""A client that comes after experts were allocated: it is given the expert whose centre it is nearest to.

A cluster's centre is the mean update of its clients, kept from the time of the decision. A newcomer is
compared with the M centres under the decision's own distance, with the same mean taken out: O(M) comparisons,
however many clients there were. Distances, dendrogram and silhouettes stay as they were, so nobody else
changes expert.

The mean of products B A is kept in factors. Their rank is that of all the products together, or less where
fewer ranks give the same up to `TOLERANCE`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fedlease.allocation.allocation import Allocation
from fedlease.allocation.distances import (
    Distance,
    Matrix,
    Update,
    check_alike,
    cosines,
    inner_products,
    updates_of,
)
from fedlease.core.errors import FedLeaseError
from fedlease.core.weights import Weights

TOLERANCE = 1e-5
"""What of a mean product may be lost by keeping it in few ranks, as a share of its Frobenius norm."""


@dataclass(frozen=True)
class Centre:
    """The mean update of an expert's clients when experts were allocated.

    Attributes:
        clients: how many there were.
        weights: float32, ``{module}.B`` [l, R], and ``{module}.A`` [R, d] where the distance is that of
            products; then B A is the mean.
    """

    clients: int
    weights: Weights


def centres(weights: Mapping[str, Weights], allocation: Allocation) -> tuple[Centre, ...]:
    """Return the centre of every expert, in the order of experts.

    Args:
        weights: what the allocation was made from, see `cluster`.
        allocation: the decision.

    Raises:
        FedLeaseError: weights that cannot be compared.
    """
    distance: Distance = "b" if allocation.distance == "b" else "product"
    found = []
    for expert in range(allocation.num_experts):
        pairs = zip(allocation.clients, allocation.labels, strict=True)
        members = [client for client, own in pairs if own == expert]
        updates = [updates_of(client, weights[client], distance) for client in members]
        kept = {}
        for name in sorted(updates[0]):
            b, a = _mean([update[name] for update in updates])
            kept[f"{name}.B"] = torch.from_numpy(b.astype(np.float32))
            if a is not None:
                kept[f"{name}.A"] = torch.from_numpy(a.astype(np.float32))
        found.append(Centre(len(members), kept))
    return tuple(found)


def distances_to(
    weights: Weights, known: Sequence[Centre], distance: Distance = "product", centered: bool = True
) -> Matrix:
    """Return how far a newcomer is from every centre, float64 [M]: the mean over modules of 1 - cosine.

    ``centered`` takes out the mean of all clients that were there, which is the mean of the centres by their
    numbers of clients. Where nothing is left of a centre or of the newcomer, the cosine counts as 0.

    Raises:
        FedLeaseError: the newcomer adapts other modules or shapes, or sent numbers that are not finite.
    """
    updates = {
        f"expert {j}": updates_of(f"expert {j}", centre.weights, distance) for j, centre in enumerate(known)
    }
    updates["the newcomer"] = updates_of("the newcomer", weights, distance)
    check_alike(updates, same_rank=distance == "b")
    counts = np.array([*(centre.clients for centre in known), 0], dtype=np.float64)
    total = np.zeros(len(known))
    modules = sorted(updates["the newcomer"])
    for name in modules:
        held = [update[name] for update in updates.values()]
        gram = inner_products(held, held)
        scale = float(np.diag(gram).mean())
        if centered:
            gram = _around(gram, counts / counts.sum())
        total += 1 - cosines(gram, scale)[-1, :-1]
    distances: Matrix = np.clip(total / len(modules), 0.0, 2.0)
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
        far = distances_to(newcomers[client], known, distance, allocation.centered)
        allocation = allocation.joined(client, int(np.argmin(far)))
    return allocation


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
