"""Bases with random adapters on them, and their gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fedlease.core.adapter import Adapter, Model
from fedlease.training.base import Base, load_base
from fedlease.training.precision import Plan
from fedlease.training.resident import Resident

KINDS = ("bnb-8bit", "bnb-4bit", "torchao-int8")


def load(folder: Path | str, kind: Any = "none", precision: str = "float32", **options: Any) -> Base:
    plan = Plan("cpu", precision, "eager", 1, "a test")
    return load_base(str(folder), **{"labels": (), "seed": 0, "plan": plan, "quantization": kind, **options})


def ids(rows: int = 3, length: int = 9) -> Tensor:
    return torch.randint(1, 257, (rows, length), generator=torch.Generator().manual_seed(1))


def adapted(base: Base, experts: int = 1, labels: int = 0) -> tuple[nn.Module, list[nn.Parameter]]:
    """The base with a random mixture of LoRA experts in training, and what of it trains."""
    random = torch.Generator().manual_seed(3)
    adapter = Adapter(rank=2, experts=experts, assigned=experts - 1)
    stack = () if experts == 1 else (experts,)
    weights = {}
    for path, (outputs, inputs) in base.modules.items():
        weights[f"{path}.A"] = 0.3 * torch.randn(*stack, 2, inputs, generator=random)
        weights[f"{path}.B"] = 0.3 * torch.randn(*stack, outputs, 2, generator=random)
        if experts > 1:
            weights[f"{path}.router"] = 0.3 * torch.randn(adapter.slots, inputs, generator=random)
    resident = Resident(base)
    network = resident.put(Model(adapter, weights), labels)
    return network.train(), resident.learn(adapter, ("A", "B", "router"))


def gradients(network: nn.Module, parameters: list[nn.Parameter]) -> list[Tensor]:
    """Of the mean square of the logits; zeros where none came."""
    network.zero_grad()
    network(input_ids=ids()).logits.float().square().mean().backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]
