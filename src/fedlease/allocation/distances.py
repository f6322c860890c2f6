"""How far apart clients' updates are: Eq. 2 of FedLEASE, and the same with the whole update B A.

Every distance comes out of one Gram matrix a module: the inner products of the clients' updates, in float64.
For ``"b"`` the update is the flattened B, as in Eq. 2. For ``"product"`` it is B A, which is never formed:
<B1 A1, B2 A2> = tr((B1^T B2)(A2 A1^T)), O((l + d) r^2) a pair, and the ranks may differ. Unlike B alone it
does not change when the same update is written with other factors (B R, R^-1 A).

Centred distances take the mean update of all clients out first. What all tasks have in common (the same
first A, the same head) makes every pair look alike; what is left tells the tasks apart. The centred inner
products are those of the Gram matrix with row means and column means taken out, so nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedlease.core.errors import FedLeaseError
from fedlease.core.weights import Weights, module, part

Distance = Literal["b", "product"]
Matrix = NDArray[np.float64]
Update = tuple[Matrix, Matrix | None]
"""One client's update of one module: B [l, r], and A [r, d] where the distance needs it."""

PARTS: Mapping[str, tuple[str, ...]] = {"b": ("B",), "product": ("A", "B")}

SMALLEST_NORM = 1e-12
"""A squared norm below this share of the module's mean squared norm is rounding, and counts as zero."""


class Compared(NamedTuple):
    """How clients' updates lie to each other, in the order of the clients.

    Attributes:
        distances: float64 [N, N], the mean over modules of 1 - cosine (Eq. 2), in [0, 2], exactly symmetric,
            with a diagonal of exact zeros; where that was asked, of the updates without their mean.
        alike: float64 [N, N], the mean over modules of the cosine of the updates as they are, in [-1, 1].
    """

    distances: Matrix
    alike: Matrix


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
    if distance not in get_args(Distance):
        raise FedLeaseError(f"distance is {distance!r}: it must be one of {', '.join(get_args(Distance))}")
    updates = {client: updates_of(client, held, distance) for client, held in weights.items()}
    check_alike(updates, same_rank=distance == "b")
    modules = sorted(next(iter(updates.values())))
    norms = np.zeros((len(modules), len(updates)))
    total, alike = np.zeros((2, len(updates), len(updates)))
    for row, name in enumerate(modules):
        held = [update[name] for update in updates.values()]
        gram = inner_products(held, held)
        gram = (gram + gram.T) / 2  # a GEMM need not round both halves alike
        norms[row] = np.diag(gram)
        scale = float(norms[row].mean())
        plain = cosines(gram, scale)
        alike += plain
        total += 1 - (cosines(center(gram), scale) if centered else plain)
    for client, column in zip(updates, norms.T, strict=True):
        if not column.any():
            raise FedLeaseError(f"client {client!r} sent an update of zero: train it first, or leave it out")
    distances: Matrix = np.clip(total / len(modules), 0.0, 2.0)
    np.fill_diagonal(distances, 0.0)
    return Compared(distances, np.clip(alike / len(modules), -1.0, 1.0))


def inner_products(left: Sequence[Update], right: Sequence[Update]) -> Matrix:
    """Return the inner products of updates of one module, float64 [len(left), len(right)].

    With A they are tr((B1^T B2)(A2 A1^T)) for any ranks, without it those of the flattened B's. Left and
    right may be any two groups, so a large federation can be gone through in blocks.
    """
    if left[0][1] is None or right[0][1] is None:
        flat: Matrix = _flat(left) @ _flat(right).T
        return flat
    by_b = np.hstack([b for b, _ in left]).T @ np.hstack([b for b, _ in right])  # [sum r, sum r]
    by_a = (
        np.vstack([a for _, a in left if a is not None]) @ np.vstack([a for _, a in right if a is not None]).T
    )
    by_rank = by_b * by_a  # the trace of a product is the sum of the elementwise product with the transpose
    rows = np.add.reduceat(by_rank, _starts(left), axis=0)
    products: Matrix = np.add.reduceat(rows, _starts(right), axis=1)
    return products


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


def updates_of(client: str, weights: Weights, distance: Distance) -> dict[str, Update]:
    """Return one client's updates by module, in float64; raise FedLeaseError where it has none."""
    held: dict[str, dict[str, Matrix]] = {}
    for name, tensor in weights.items():
        if part(name) in PARTS[distance]:
            held.setdefault(module(name), {})[part(name)] = _float64(client, name, tensor)
    if not held:
        raise FedLeaseError(f"client {client!r} sent no LoRA weights: no tensor's name ends in .A and .B")
    updates: dict[str, Update] = {}
    for name, parts in held.items():
        for wanted in PARTS[distance]:
            if wanted not in parts:
                raise FedLeaseError(f"client {client!r} sent no {wanted} for module {name!r}")
        update = parts["B"], parts.get("A")
        if update[1] is not None and update[0].shape[1] != update[1].shape[0]:
            shapes = f"B {list(update[0].shape)} and A {list(update[1].shape)}"
            raise FedLeaseError(f"client {client!r}: the ranks of module {name!r} differ: {shapes}")
        updates[name] = update
    return updates


def _float64(client: str, name: str, tensor: Tensor) -> Matrix:
    if tensor.ndim != 2 or tensor.numel() == 0:
        raise FedLeaseError(
            f"client {client!r}: {name!r} is {list(tensor.shape)}, not a matrix of one expert"
        )
    if not bool(torch.isfinite(tensor).all()):
        raise FedLeaseError(
            f"client {client!r}: {name!r} has numbers that are not finite; leave the client out"
        )
    matrix: Matrix = tensor.detach().to(device="cpu", dtype=torch.float64).numpy()
    return matrix


def check_alike(updates: Mapping[str, Mapping[str, Update]], same_rank: bool) -> None:
    """Raise FedLeaseError where a client adapts other modules than the first one, or other shapes."""
    first, reference = next(iter(updates.items()))
    for client, own in updates.items():
        for name in sorted(reference.keys() ^ own.keys()):
            has, lacks = (client, first) if name in own else (first, client)
            raise FedLeaseError(f"module {name!r} is adapted by client {has!r} but not by client {lacks!r}")
        for name, update in own.items():
            if _shape(update, same_rank) != _shape(reference[name], same_rank):
                what = "shape or rank" if same_rank else "shape"
                raise FedLeaseError(
                    f"module {name!r} of client {client!r} has another {what} than that of {first!r}"
                )


def _shape(update: Update, same_rank: bool) -> tuple[int, ...]:
    b, a = update
    rank = b.shape[1] if same_rank else 0
    return (b.shape[0], rank, a.shape[1] if a is not None else 0)
