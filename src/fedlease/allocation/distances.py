"""How far apart clients' updates are: Eq. 2 of FedLEASE, and the same with the whole update B A.

Every distance comes out of one Gram matrix a module: the inner products of the clients' updates, in float64.
For ``"b"`` the update is the flattened B, as in Eq. 2. For ``"product"`` it is B A, which is never formed:
<B1 A1, B2 A2> = tr((B1^T B2)(A2 A1^T)), O((l + d) r^2) a pair, and the ranks may differ. Unlike B alone it
does not change when the same update is written with other factors (B R, R^-1 A).

Centred distances take the mean update of all clients out first. What all tasks have in common (the same
first A, the same head) makes every pair look alike; what is left tells the tasks apart. The centred inner
products are those of the Gram matrix with row means and column means taken out, so nothing is approximated.

Clients are gone through in blocks of `BLOCK_BYTES`, each pair of blocks once, and asked for when a block
needs them: of a mapping that loads what it is asked for, no more than two blocks are in memory. What fits in
one block is asked for once. In float64 there is one module of a block at a time, so weights that are read
tensor by tensor, as an engine's answers are, take no memory to speak of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedlease.allocation.deciding import share_between
from fedlease.allocation.updates import (
    Distance,
    Matrix,
    Update,
    check_alike,
    check_distance,
    update_of,
    updates_of,
    zero_update,
)
from fedlease.core.weights import Weights

SMALLEST_NORM = 1e-12
"""A squared norm below this share of the module's mean squared norm is rounding, and counts as zero."""

BLOCK_BYTES = 2**29
"""What the updates of one block of clients would take in float64, half a GiB; in float32 they take half."""

ROWS = 512
"""Ranks of all clients together that are multiplied at once with those of the others."""


class Compared(NamedTuple):
    """How clients' updates lie to each other, in the order of the clients.

    Attributes:
        distances: float64 [N, N], the mean over modules of 1 - cosine (Eq. 2), in [0, 2], exactly symmetric,
            with a diagonal of exact zeros; where that was asked, of the updates without their mean.
        alike: float64 [N, N], the mean over modules of the cosine of the updates as they are, in [-1, 1].
    """

    distances: Matrix
    alike: Matrix

    def share_between(self, labels: Sequence[int]) -> float:
        """Return what clients of different clusters have in common, see `deciding.share_between`."""
        return share_between(self.alike, labels)


def client_distances(
    weights: Mapping[str, Weights], distance: Distance = "product", centered: bool = True
) -> Matrix:
    """Return the distances between clients alone, float64 [N, N]; see `compare`."""
    return compare(weights, distance, centered).distances


def compare(
    weights: Mapping[str, Weights], distance: Distance = "product", centered: bool = True
) -> Compared:
    """Compare the clients' updates, in the order of ``weights``.

    Where an update of one module is zero (after centring: where it is the mean), the module says nothing of
    that client: its cosine with every other client counts as 0.

    Args:
        weights: client -> weights, ``{module}.A`` [r, d] and ``{module}.B`` [l, r]; other parts are left
            aside, and so is A for ``"b"``.
        distance: ``"b"`` (Eq. 2) or ``"product"``.
        centered: take out the mean update of all clients first, for the distances.

    Raises:
        FedLeaseError: clients that adapt different modules or have other shapes, numbers that are not finite,
            or a client whose updates are all zero, each named.
    """
    check_distance(distance)
    clients = list(weights)
    there = np.zeros(len(clients), dtype=bool)
    total, alike = np.zeros((2, len(clients), len(clients)))
    modules = 0
    for gram in _grams(weights, distance):
        modules += 1
        there |= np.diag(gram) != 0
        scale = float(np.diag(gram).mean())
        plain = cosines(gram, scale)
        alike += plain
        total += 1 - (cosines(center(gram), scale) if centered else plain)
    for client, anything in zip(clients, there, strict=True):
        if not anything:
            raise zero_update(client)
    distances: Matrix = np.clip(total / modules, 0.0, 2.0)
    np.fill_diagonal(distances, 0.0)
    return Compared(distances, np.clip(alike / modules, -1.0, 1.0))


def _grams(weights: Mapping[str, Weights], distance: Distance) -> Iterator[Matrix]:
    """Yield the clients' inner products by module, float64 [N, N], exactly symmetric."""
    clients, block = list(weights), _Blocks(weights, distance)
    left = block.read(clients, room=BLOCK_BYTES)
    size, modules = len(left), sorted(block.first[clients[0]])
    if size == len(clients):
        yield from (_symmetric(block.of(left, name)) for name in modules)
        return
    grams = np.empty((len(modules), len(clients), len(clients)))
    for top in range(0, len(clients), size):
        rows = slice(top, top + size)
        if top:
            left = block.read(clients[rows])
        for gram, name in zip(grams, modules, strict=True):
            gram[rows, rows] = _symmetric(block.of(left, name))
        for start in range(0, top, size):
            columns = slice(start, start + size)
            right = block.read(clients[columns])
            for gram, name in zip(grams, modules, strict=True):
                gram[rows, columns] = inner_products(block.of(left, name), block.of(right, name))
                gram[columns, rows] = gram[rows, columns].T
    yield from grams


class _Blocks:
    """Reads clients, checked against the first one, and gives their updates module by module.

    Attributes:
        first: the first client's updates, once it was read.
    """

    def __init__(self, weights: Mapping[str, Weights], distance: Distance) -> None:
        self._weights, self._distance = weights, distance
        self.first: dict[str, dict[str, Update]] = {}

    def read(self, clients: Iterable[str], room: float = inf) -> dict[str, Weights]:
        """Ask for clients, one at least, as long as there is room for their bytes in float64."""
        held: dict[str, Weights] = {}
        for client in clients:
            own = self._weights[client]
            updates = updates_of(client, own, self._distance)
            self.first = self.first or {client: updates}
            check_alike({**self.first, client: updates}, same_rank=self._distance == "b")
            room -= sum(b.nbytes + (0 if a is None else a.nbytes) for b, a in updates.values())
            if held and room < 0:
                break
            held[client] = own
        return held

    def of(self, held: Mapping[str, Weights], name: str) -> list[Update]:
        """The updates of one module of clients that were read."""
        return [update_of(client, weights, name, self._distance) for client, weights in held.items()]


def _symmetric(held: Sequence[Update]) -> Matrix:
    gram = inner_products(held, held)
    symmetric: Matrix = (gram + gram.T) / 2  # a GEMM need not round both halves alike
    return symmetric


def inner_products(left: Sequence[Update], right: Sequence[Update]) -> Matrix:
    """Return the inner products of updates of one module, float64 [len(left), len(right)].

    With A they are tr((B1^T B2)(A2 A1^T)) for any ranks, without it those of the flattened B's. Left and
    right may be any two groups, so a large federation can be gone through in blocks.
    """
    if left[0][1] is None or right[0][1] is None:
        flat: Matrix = _flat(left) @ _flat(right).T
        return flat
    products: Matrix = np.empty((len(left), len(right)))
    for rows in _few(left):
        for columns in _few(right):
            products[rows, columns] = _of_products(left[rows], right[columns])
    return products


def _of_products(left: Sequence[Update], right: Sequence[Update]) -> Matrix:
    """Return the inner products of updates that have A."""
    by_rank = np.hstack([b for b, _ in left]).T @ np.hstack([b for b, _ in right])  # [sum r, sum r]
    by_rank *= _stacked(left) @ _stacked(right).T  # a trace of products is a sum over both, entry by entry
    rows = np.add.reduceat(by_rank, _starts(left), axis=0)
    products: Matrix = np.add.reduceat(rows, _starts(right), axis=1)
    return products


def _few(updates: Sequence[Update]) -> Iterator[slice]:
    """Part updates into neighbours of no more than `ROWS` ranks together, where they have less each."""
    start = ranks = 0
    for stop, (b, _) in enumerate(updates):
        if stop > start and ranks + b.shape[1] > ROWS:
            yield slice(start, stop)
            start, ranks = stop, 0
        ranks += b.shape[1]
    yield slice(start, len(updates))


def _stacked(updates: Sequence[Update]) -> Matrix:
    """A of all, one below the other [sum r, d]."""
    return np.vstack([a for _, a in updates if a is not None])


def center(gram: Matrix) -> Matrix:
    """Return the inner products of the same vectors once their mean is taken out: [N, N] -> [N, N]."""
    means = gram.mean(axis=0)
    centered: Matrix = gram - (means[None, :] + means[:, None]) + means.mean()  # so put, exactly symmetric
    return centered


def cosines(gram: Matrix, scale: float) -> Matrix:
    """Return the cosines of vectors from their inner products; 0 where a norm is zero next to ``scale``."""
    squares = np.diag(gram)
    there = squares > SMALLEST_NORM * scale
    norms = np.sqrt(np.where(there, squares, 1.0))
    both = there[:, None] & there[None, :]
    return np.where(both, gram / (norms[:, None] * norms[None, :]), 0.0)


def _flat(updates: Sequence[Update]) -> Matrix:
    return np.stack([b.reshape(-1) for b, _ in updates])


def _starts(updates: Sequence[Update]) -> NDArray[np.int64]:
    ranks = [b.shape[1] for b, _ in updates]
    return np.cumsum([0, *ranks[:-1]], dtype=np.int64)
