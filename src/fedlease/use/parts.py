"""The parts of a mixture as plain LoRA adapters: one expert, or all with constant weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedlease.core.adapter import Adapter, Model
from fedlease.core.errors import FedLeaseError
from fedlease.core.weights import module, part, select


def expert(model: Model, index: int) -> Model:
    """Return one expert of a mixture alone, with weight 1.

    Raises:
        FedLeaseError: there is no such expert, or the mixture has a frozen companion.
    """
    adapter = model.adapter
    _check(adapter)
    if not 0 <= index < adapter.experts:
        raise FedLeaseError(f"there is no expert {index}, there are {adapter.experts}")
    alone = Adapter(adapter.rank, adapter.alpha, adapter.dropout)
    weights = {
        name: (tensor[index] if adapter.stacked(part(name)) else tensor).clone()
        for name, tensor in select(model.weights, ("A", "B")).items()
    }
    return Model(alone, weights)


def side_by_side(model: Model, weights: Mapping[str, Sequence[float]]) -> Model:
    """Return ``alpha / r * sum_m w_m B_m A_m`` as one LoRA of rank M r and scale 1, exactly.

    Args:
        model: a mixture, or a single adapter.
        weights: of the M experts, for each module by its path.

    Raises:
        FedLeaseError: the mixture has a frozen companion, or a module has no weights.
    """
    adapter = model.adapter
    _check(adapter)
    experts = [expert(model, index).weights for index in range(adapter.experts)]
    found: dict[str, Tensor] = {}
    for name in select(model.weights, ("A",)):
        path = module(name)
        if len(weights.get(path, ())) != adapter.experts:
            raise FedLeaseError(f"module {path} needs a weight for each of the {adapter.experts} experts")
        scaled = [
            each[f"{path}.B"] * (weight * adapter.alpha / adapter.rank)
            for each, weight in zip(experts, weights[path], strict=True)
        ]
        found[name] = torch.cat([each[name] for each in experts])
        found[f"{path}.B"] = torch.cat(scaled, dim=1)
    rank = adapter.experts * adapter.rank
    return Model(Adapter(rank, alpha=float(rank)), found)


def evenly(model: Model) -> Model:
    """Return the mixture in which every expert has the weight 1 / M, as one LoRA."""
    experts = model.adapter.experts
    paths = {module(name) for name in model.weights}
    return side_by_side(model, {path: [1 / experts] * experts for path in paths})


def _check(adapter: Adapter) -> None:
    if adapter.fixed:
        raise FedLeaseError("the adapter has a frozen companion beside its experts: it cannot be taken apart")
