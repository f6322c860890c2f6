"""Classification heads: one for each number of labels, drawn from the seed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from fedlease.core.errors import FedLeaseError
from fedlease.core.seeds import generator
from fedlease.training.shapes import HEADS


def in_head(name: str) -> bool:
    """Tell whether a module or parameter of a model belongs to its head."""
    return name.partition(".")[0] in HEADS


def seeded_heads(name: str, model: Any, counts: Sequence[int], seed: int) -> tuple[str, dict[int, nn.Module]]:
    """Return the attribute of a model that holds its head, and a seeded head for each number of labels.

    Raises:
        FedLeaseError: the model has no head under a known name.
    """
    head_name = next((n for n in HEADS if isinstance(getattr(model, n, None), nn.Module)), None)
    if head_name is None:
        raise FedLeaseError(f"model {name}: no classification head called {', '.join(HEADS)} was found")
    spread = float(getattr(model.config, "initializer_range", 0.02))
    return head_name, {
        count: _seeded_head(getattr(model, head_name), count, spread, seed) for count in counts
    }


def _seeded_head(head: nn.Module, labels: int, spread: float, seed: int) -> nn.Module:
    """A copy of the head for that many labels, drawn from the seed and the number of labels alone."""
    made = copy.deepcopy(head)
    linears = [(path, module) for path, module in made.named_modules() if isinstance(module, nn.Linear)]
    path, last = linears[-1]
    resized = nn.Linear(last.in_features, labels, bias=last.bias is not None).to(last.weight)
    if path:
        made.set_submodule(path, resized)
    else:
        made = resized
    with torch.no_grad():
        for name, parameter in sorted(made.named_parameters()):
            draw = torch.randn(parameter.shape, generator=generator(seed, "head", labels, name))
            parameter.copy_(spread * draw if parameter.dim() > 1 else torch.zeros_like(draw))
    return made
