"""What of a client's weights is compared: its updates by module, in float64, checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, get_args

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


class InOrder(Mapping[str, Weights]):
    """Some clients of a mapping in the order given, each read from it when it is asked for."""

    def __init__(self, weights: Mapping[str, Weights], clients: Sequence[str]) -> None:
        self._weights, self._clients = weights, clients

    def __getitem__(self, client: str) -> Weights:
        return self._weights[client]

    def __iter__(self) -> Iterator[str]:
        return iter(self._clients)

    def __len__(self) -> int:
        return len(self._clients)


def check_distance(distance: str) -> None:
    """Raise FedLeaseError for a distance that there is not."""
    if distance not in get_args(Distance):
        raise FedLeaseError(f"distance is {distance!r}: it must be one of {', '.join(get_args(Distance))}")


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


def update_of(client: str, weights: Weights, name: str, distance: Distance) -> Update:
    """Return the update of one module that `updates_of` knows, the other modules unread."""
    key = f"{name}." if name else ""
    b = _float64(client, f"{key}B", weights[f"{key}B"])
    return b, None if distance == "b" else _float64(client, f"{key}A", weights[f"{key}A"])


def zero_update(client: str) -> FedLeaseError:
    """Return the error of a client all of whose updates are zero."""
    return FedLeaseError(f"client {client!r} sent an update of zero: train it first, or leave it out")


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
