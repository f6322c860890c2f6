"""Which experts each row uses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fedlease.tasks.base import Encoded, Task
from fedlease.tasks.inference import Inference
from fedlease.training.usage import counted

DIGITS = 4
"""Decimals of weights: more would say nothing and make lines long."""


@torch.inference_mode()
def experts_of(network: nn.Module, task: Task, rows: Encoded, inference: Inference) -> list[dict[str, Any]]:
    """Return for every row what each adapted module makes of its experts, by the module's path.

    ``used`` is how many experts a token of the row uses on average, ``weights`` the mean weight of each
    expert, in their order. Padding is not counted; in generation prompt and answer are.
    """
    found: list[dict[str, Any]] = [{} for _ in range(len(rows))]
    for indices in inference.batches(rows.lengths):
        batch = task.collate(rows, indices, inference.pad_id)
        batch = {name: tensor.to(inference.device) for name, tensor in batch.items()}
        mask = batch["attention_mask"].bool()

        def add(path: str, weights: Tensor, mask: Tensor = mask, indices: list[int] = indices) -> None:
            if weights.dim() == 2:  # the module sees one vector a row, such as a pooler
                weights, mask = weights.unsqueeze(1), mask[:, :1]
            tokens = mask.sum(1, keepdim=True)
            used = ((weights > 0).sum(-1) * mask).sum(1, keepdim=True) / tokens
            means = (weights.double() * mask.unsqueeze(-1)).sum(1) / tokens
            for row, many, mean in zip(indices, used[:, 0].tolist(), means.tolist(), strict=True):
                told = [round(weight, DIGITS) for weight in mean]
                found[row][path] = {"used": round(many, DIGITS), "weights": told}

        with counted(network, add):
            task.loss(network, batch)
    return found
