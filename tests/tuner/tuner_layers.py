"""Layers with random weights, and what they must compute, written out expert by expert."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedlease.tuner import FedLeaseConfig, FedLeaseLayer

D, L = 5, 4


def make(
    dtype: torch.dtype = torch.float64, base: nn.Module | None = None, **options: object
) -> FedLeaseLayer:
    """A layer all of whose weights are random."""
    torch.manual_seed(0)
    base = base or nn.Linear(D, L, dtype=dtype)
    return drawn(FedLeaseLayer(base, "default", FedLeaseConfig(r=2, **options)))


def drawn(layer: FedLeaseLayer) -> FedLeaseLayer:
    """The layer with random weights on a frozen base."""
    layer.base_layer.requires_grad_(False)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if "fedlease_" in name:
                parameter.copy_(torch.randn(parameter.shape))
    return layer


def written_out(layer: FedLeaseLayer, x: Tensor, inputs: Tensor | None = None) -> Tensor:
    """Eq. 5 (or Eq. 4) token by token and slot by slot, from the layer's parameters; differentiable.

    ``inputs`` is what the experts see, where dropout makes it differ from what the router sees.
    """
    adapter = layer.adapters["default"]
    M, j = adapter.experts, adapter.assigned
    others = [expert for expert in range(M) if expert != j]
    A, B = {j: layer.fedlease_A["default"]}, {j: layer.fedlease_B["default"]}
    for place, expert in enumerate(others):
        A[expert] = layer.fedlease_frozen_A["default"][place]
        B[expert] = layer.fedlease_frozen_B["default"][place]
    order = [j] * (M if adapter.top_k is None else 1) + others
    rows = []
    for token, seen in zip(x, x if inputs is None else inputs, strict=True):
        omega = torch.softmax(layer.fedlease_router["default"] @ token, 0)
        chosen = sorted(range(len(order)), key=lambda i: (-omega[i].item(), i))[: adapter.top_k or M]
        total = sum(omega[i] for i in chosen) if adapter.normalize else 1.0
        y = layer.base_layer(token)
        for i in chosen:
            update = B[order[i]] @ (A[order[i]] @ seen)
            y = y + omega[i] / total * (adapter.alpha / adapter.rank) * update
        rows.append(y)
    return torch.stack(rows)


def trained(layer: FedLeaseLayer) -> list[Tensor]:
    return [layer.fedlease_A["default"], layer.fedlease_B["default"], layer.fedlease_router["default"]]
