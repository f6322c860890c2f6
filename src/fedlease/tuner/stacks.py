"""Expert stacks [M, ...] and the layer's form of them: the assigned expert beside a stack of the others."""

from __future__ import annotations

import torch
from torch import Tensor

from fedlease.core.errors import FedLeaseError


def split(stacked: Tensor, assigned: int) -> tuple[Tensor, Tensor]:
    """Take expert ``assigned`` out of a stack: [M, ...] -> [...] and [M-1, ...]."""
    return stacked[assigned], torch.cat([stacked[:assigned], stacked[assigned + 1 :]])


def join(own: Tensor, others: Tensor, assigned: int) -> Tensor:
    """Put the assigned expert back at its index: the inverse of `split`."""
    return torch.cat([others[:assigned], own.unsqueeze(0), others[assigned:]])


def check_shape(what: str, tensor: Tensor | None, shape: tuple[int, ...] | None) -> None:
    """Raise a FedLeaseError unless the tensor has this shape (None: unless there is no tensor)."""
    found = None if tensor is None else tuple(tensor.shape)
    if found != shape:
        raise FedLeaseError(f"{what} is {found or 'absent'} and should be {shape or 'absent'}")
