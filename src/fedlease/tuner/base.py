"""What the layer needs to know of the module it wraps: its size, and its weight where that can be changed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from fedlease.core.errors import FedLeaseError


def features_of(module: nn.Module) -> tuple[int, int]:
    """Return (d inputs, l outputs) of a linear module: nn.Linear, GPT-2's Conv1D, or a quantised one.

    Raises:
        FedLeaseError: the module does not tell.
    """
    if isinstance(module, Conv1D):
        inputs, outputs = module.weight.shape
        return int(inputs), int(outputs)
    for pair in (("in_features", "out_features"), ("infeatures", "outfeatures")):
        sizes = [getattr(module, name, None) for name in pair]
        if all(isinstance(size, int) for size in sizes):
            return sizes[0], sizes[1]  # type: ignore[return-value]
    raise FedLeaseError(f"a {type(module).__name__} cannot be adapted: target linear modules only")


@torch.no_grad()
def add_to_weight(module: nn.Module, delta: Tensor, check: bool = False) -> None:
    """Add ``delta`` [l, d] to the weight of nn.Linear or Conv1D, in place.

    Raises:
        FedLeaseError: another module or a quantised weight; with ``check``, numbers that are not finite.
    """
    weight = getattr(module, "weight", None)
    linear = isinstance(module, nn.Linear | Conv1D)
    # A quantised weight of torchao says that it is floating point.
    if not linear or weight is None or type(weight) is not nn.Parameter or not weight.is_floating_point():
        raise FedLeaseError(f"nothing can be merged into the weight of a {type(module).__name__}")
    changed = weight + (delta.T if isinstance(module, Conv1D) else delta).to(weight.device, weight.dtype)
    if check and not torch.isfinite(changed).all():
        raise FedLeaseError("merging would put numbers that are not finite into the base weight")
    weight.copy_(changed)
