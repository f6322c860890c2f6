"""Which experts a mixture uses: how many a token, and how much of each (Figure 6c of FedLEASE)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlease.tasks.base import Encoded, Task
from fedlease.tasks.inference import Inference
from fedlease.tuner import FedLeaseLayer

MOST_ROWS = 200
"""Rows that are looked at, the first ones."""


@dataclass(frozen=True)
class Usage:
    """What one adapted module does with its experts, over all tokens seen.

    Attributes:
        experts: mean number of experts a token uses, those whose weight is not 0: between 1 and M.
        weights: mean weight of each of the M experts, in expert order.
        entropy: mean over tokens of the entropy of a token's weights, rescaled to sum to 1, in bits: 0 where
            every token uses one expert, log2(M) where every token uses all alike.
    """

    experts: float
    weights: tuple[float, ...]
    entropy: float


@torch.inference_mode()
def usage(
    network: nn.Module, task: Task, rows: Encoded, inference: Inference, most: int | None = None
) -> dict[str, Usage]:
    """Return how each adapted module uses the experts of its active adapter, by the module's path.

    The first ``most`` rows (None: `MOST_ROWS`) go through the network as in training; padding is not counted.
    """
    network.eval()
    counts = _Counts()
    with counted(network, counts.add):
        for indices in inference.batches(rows.lengths[: MOST_ROWS if most is None else most]):
            batch = task.collate(rows, indices, inference.pad_id)
            batch = {name: tensor.to(inference.device) for name, tensor in batch.items()}
            counts.mask = batch["attention_mask"].bool()
            task.loss(network, batch)
    return {path: counts.of(path) for path in counts.tokens}


class _Counts:
    """Sums over the tokens seen so far, by module: tokens, experts used, weights [M], entropy."""

    def __init__(self) -> None:
        self.mask = torch.empty(0, dtype=torch.bool)
        self.tokens: Counter[str] = Counter()
        self._used: Counter[str] = Counter()
        self._weights: dict[str, Tensor] = {}
        self._entropy: dict[str, float] = {}

    def add(self, path: str, weights: Tensor) -> None:
        """Count what a module does with one batch: [..., M]."""
        rows = weights.flatten(0, -2)
        if len(rows) == self.mask.numel():  # else the module sees one vector a row, such as a pooler
            rows = rows[self.mask.flatten()]
        self.tokens[path] += len(rows)
        self._used[path] += int((rows > 0).sum())
        exact = rows.double()
        sums = exact.sum(0).cpu()
        shares = exact / exact.sum(-1, keepdim=True)
        bits = float(torch.special.entr(shares).sum()) / math.log(2)
        self._entropy[path] = self._entropy.get(path, 0.0) + bits
        self._weights[path] = self._weights[path] + sums if path in self._weights else sums

    def of(self, path: str) -> Usage:
        """The means; six decimals say all there is, and keep a record short."""
        tokens = self.tokens[path]
        weights = (self._weights[path] / tokens).tolist()
        return Usage(
            round(self._used[path] / tokens, 6),
            tuple(round(weight, 6) for weight in weights),
            round(self._entropy[path] / tokens, 6),
        )


@contextmanager
def counted(model: nn.Module, add: Callable[[str, Tensor], None]) -> Iterator[None]:
    """While this is open, ``add`` gets every adapted module's path and mixture weights [..., M]."""

    def hook(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def count(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            assert isinstance(layer, FedLeaseLayer)
            add(path, layer.weights_of(inputs[0], layer.active_adapters[0]))

        return count

    handles = [
        module.register_forward_pre_hook(hook(path))
        for path, module in model.named_modules()
        if isinstance(module, FedLeaseLayer)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
