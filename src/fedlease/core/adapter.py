"""What is trained: the shape of an adapter, its first weights, and an adapter with its weights.

A plain LoRA adapter is the mixture of one expert, which has no router. So every method runs through one
layer, `fedlease.tuner.layer`, and one code path.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fedlease.core.errors import FedLeaseError
from fedlease.core.seeds import generator
from fedlease.core.weights import Weights, part

Modules = Mapping[str, tuple[int, int]]
"""The adapted modules of a base model: dotted path -> (l outputs, d inputs)."""


@dataclass(frozen=True)
class Adapter:
    """The shape and the mixing rule of an adapter; its weights are in `Model`.

    With ``experts == 1`` a module's update is ``alpha / rank * B A x`` (LoRA). With M > 1 experts it is the
    sum of M such updates weighted by the router (Eq. 5): adaptive top-M over 2M-1 slots when ``top_k`` is
    None, or the vanilla top-k over M slots, slot 0 the assigned expert's (Eq. 4).

    Attributes:
        rank, alpha, dropout: of every expert; dropout is on the experts' input.
        experts, assigned: M, and the one whose A and B may train.
        top_k, normalize: of the router; ``normalize`` rescales the chosen slots' weights to sum to 1.
        fixed: rank of a frozen companion, of which ``fixed_B fixed_A x`` is added as it is; 0 is none.
        shared_a: the M experts have one A between them, which trains; every expert has its own B.
    """

    rank: int
    alpha: float = 16.0
    dropout: float = 0.0
    experts: int = 1
    assigned: int = 0
    top_k: int | None = None
    normalize: bool = False
    fixed: int = 0
    shared_a: bool = False

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise FedLeaseError(f"rank is {self.rank}: a LoRA adapter needs a rank of at least 1")
        if not self.alpha > 0:
            raise FedLeaseError(f"alpha is {self.alpha}: it must be above 0")
        if not 0 <= self.dropout < 1:
            raise FedLeaseError(f"dropout is {self.dropout}: it must be at least 0 and below 1")
        if self.experts < 1 or not 0 <= self.assigned < self.experts:
            raise FedLeaseError(f"expert {self.assigned} of {self.experts} does not exist")
        if self.top_k is not None and not 1 <= self.top_k <= self.experts:
            raise FedLeaseError(f"top_k is {self.top_k}: it must be between 1 and the {self.experts} experts")
        if self.fixed < 0:
            raise FedLeaseError(f"fixed is {self.fixed}: a rank cannot be negative")

    @property
    def slots(self) -> int:
        """Rows of the router: 2M-1 (adaptive), M (fixed top-k), 0 with a single expert."""
        if self.experts == 1:
            return 0
        return 2 * self.experts - 1 if self.top_k is None else self.experts

    def stacked(self, part: str) -> bool:
        """Whether a part has the experts on a leading axis: ``A`` [M, r, d] or ``B`` [M, l, r]."""
        return self.experts > 1 and (part == "B" or (part == "A" and not self.shared_a))


@dataclass(frozen=True)
class Model:
    """An adapter with its weights: ``A`` [r, d], ``B`` [l, r] for one expert, stacked [M, ...] for more.

    ``router`` [slots, d] is there when there is more than one expert, ``fixed_A`` [R, d] and ``fixed_B``
    [l, R] when the adapter has a frozen companion of rank R. All tensors are float32.
    """

    adapter: Adapter
    weights: Weights


@dataclass(frozen=True)
class Learn:
    """What a client is to train, and for how long.

    Attributes:
        parts: the parts that train. Of several experts only the assigned one's A and B (or the A that all
            share) ever train.
        round: the round it happens in; with the purpose it seeds batch order and dropout.
        epochs: passes over the client's rows; None means what the site is configured with.
        purpose: a word for progress and seeds, e.g. ``"train"`` or ``"warm-up"``.
    """

    parts: Collection[str] = field(default=("A", "B", "router"))
    round: int = 0
    epochs: int | None = None
    purpose: str = "train"


def lora_init(modules: Modules, rank: int, seed: int, *purpose: str | int) -> dict[str, Tensor]:
    """Return the first weights of a LoRA adapter: A Kaiming-uniform (as PEFT's), B zero, float32.

    Each module has its own generator, so its A does not depend on which other modules are adapted.
    """
    weights = {}
    for name, (outputs, inputs) in sorted(modules.items()):
        bound = 1 / math.sqrt(inputs)  # kaiming_uniform_ with a = sqrt(5)
        uniform = torch.rand(rank, inputs, generator=generator(seed, "lora", *purpose, name))
        weights[f"{name}.A"] = (2 * uniform - 1) * bound
        weights[f"{name}.B"] = torch.zeros(outputs, rank)
    return weights


def router_init(
    inputs: Mapping[str, int], slots: int, std: float, seed: int, *purpose: str | int
) -> dict[str, Tensor]:
    """Return the first weights of a router for every module: ``router`` [slots, d], normal, float32."""
    return {
        f"{name}.router": std * torch.randn(slots, d, generator=generator(seed, "router", *purpose, name))
        for name, d in sorted(inputs.items())
    }


def trainable(model: Model, learn: Learn) -> dict[str, int]:
    """Count the numbers one client trains, by part: only the assigned expert's A and B count."""
    counts: dict[str, int] = {}
    for name, tensor in model.weights.items():
        kind = part(name)
        if kind in learn.parts:
            share = model.adapter.experts if model.adapter.stacked(kind) else 1
            counts[kind] = counts.get(kind, 0) + tensor.numel() // share
    return counts
