"""Named tensors, and the arithmetic federated methods do with them.

A name is ``{module}.{part}``: the dotted path of the adapted module in the base model, then the part of
the adapter: ``A`` [r, d], ``B`` [l, r], ``router`` [2M-1, d], ``fixed_A`` [R, d] or ``fixed_B`` [l, R], for a
module of d inputs and l outputs; ``first_A`` and ``first_B`` are an earlier A and B.
Stacked weights carry experts on a leading axis (``A`` [M, r, d]); the expert index is never in a name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from fedlease.core.errors import FedLeaseError

Weights = Mapping[str, Tensor]

DIGEST = 16
"""Bytes of a `digest`."""


def part(name: str) -> str:
    """Return the part a tensor's name ends in: ``"A"``, ``"B"``, ``"router"``."""
    return name.rpartition(".")[2]


def module(name: str) -> str:
    """Return the dotted path of the module a tensor belongs to."""
    return name.rpartition(".")[0]


def select(weights: Weights, parts: Collection[str]) -> dict[str, Tensor]:
    """Return the tensors whose part is one of ``parts``, in the given order."""
    return {name: tensor for name, tensor in weights.items() if part(name) in parts}


def rename(weights: Weights, parts: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the tensors of the parts named, each under the part it maps to; others are left out."""
    return {
        f"{module(name)}.{parts[part(name)]}": tensor
        for name, tensor in weights.items()
        if part(name) in parts
    }


def mean(items: Iterable[Weights], by: Sequence[float] | None = None) -> dict[str, Tensor]:
    """Average weights of equal names and shapes, plainly or in proportion to ``by``.

    Sums run in float64 in the order given and are cast back to each tensor's dtype, so the result depends
    on the order alone, never on threads. Engines hand out answers sorted by client.

    Raises:
        FedLeaseError: nothing to average, names or shapes that differ, shares that do not sum to a positive
            number.
    """
    sets = list(items)
    if not sets:
        raise FedLeaseError("nothing to average: no client answered")
    shares = [1.0] * len(sets) if by is None else [float(share) for share in by]
    total = sum(shares)
    if len(shares) != len(sets) or min(shares) < 0 or total <= 0:
        raise FedLeaseError(f"cannot average {len(sets)} sets of weights in the proportions {shares}")
    if any(weights.keys() != sets[0].keys() for weights in sets):
        raise FedLeaseError("cannot average weights whose tensors have different names")
    if any(weights[name].shape != first.shape for weights in sets for name, first in sets[0].items()):
        raise FedLeaseError(
            "cannot average weights whose tensors have different shapes: are the ranks equal?"
        )
    averaged = {}
    for name, first in sets[0].items():
        accumulated = torch.zeros(first.shape, dtype=torch.float64)
        for weights, share in zip(sets, shares, strict=True):
            accumulated.add_(weights[name].to(torch.float64), alpha=share)
        averaged[name] = (accumulated / total).to(first.dtype)
    return averaged


def stack(experts: Sequence[Weights]) -> dict[str, Tensor]:
    """Put M sets of weights of equal names and shapes side by side: every tensor gains a leading axis M."""
    return {name: torch.stack([weights[name] for weights in experts]) for name in experts[0]}


def unstack(weights: Weights, index: int) -> dict[str, Tensor]:
    """Return one entry of the leading axis of every tensor: the inverse of `stack`."""
    return {name: tensor.clone() for name, tensor in entry(weights, index).items()}


def entry(weights: Weights, index: int) -> dict[str, Tensor]:
    """The same without copies, for what many clients are sent: each tensor shares the stack's memory."""
    return {name: tensor[index] for name, tensor in weights.items()}


def nbytes(weights: Weights) -> dict[str, int]:
    """Return the bytes of the tensors by part, as they cross the wire."""
    sizes: dict[str, int] = {}
    for name, tensor in weights.items():
        sizes[part(name)] = sizes.get(part(name), 0) + tensor.numel() * tensor.element_size()
    return sizes


def items(tensor: Tensor) -> Tensor:
    """Return the entries of a stacked tensor [M, ., .], flattened [M, n]; another is its only one, [1, n]."""
    return tensor.reshape(len(tensor) if tensor.dim() == 3 else 1, -1)


def digest(tensor: Tensor, about: str = "") -> bytes:
    """Hash a tensor's shape, dtype and bits, and what is said about it: `DIGEST` bytes."""
    ready = tensor.detach().contiguous().flatten().view(torch.uint8)
    hashed = hashlib.blake2b(f"{tuple(tensor.shape)}{tensor.dtype}{about}".encode(), digest_size=DIGEST)
    hashed.update(ready.numpy().data)
    return hashed.digest()
