"""The only optimisation loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import ClassVar, Literal

import torch
from torch import nn

from fedlease.core.errors import DivergedError, FedLeaseError
from fedlease.core.seeds import derive, generator
from fedlease.tasks.base import Encoded, Task
from fedlease.tasks.batching import batches, in_length_order, most_tokens
from fedlease.tasks.inference import Step
from fedlease.training.precision import Plan


@dataclass(frozen=True)
class Training:
    """How every client trains, whatever the method.

    Attributes:
        learning_rate: AdamW's.
        batch_size: rows of a training batch.
        epochs: passes over a client's rows in one round.
        weight_decay: AdamW's, on adapters and routers.
        schedule: of the learning rate within a round: ``"linear"`` falls to zero, ``"constant"`` stays.
        max_grad_norm: gradients are clipped to this norm; 0 turns clipping off.
        pool: batches sorted by length together; 1 keeps batches wholly random, more wastes less padding.
        score_batch_size: rows of a scoring batch.
        micro_batch_size: most rows of a training batch that go through the model at once: gradients of a
            larger one are summed, which are those of the whole but for rounding and the draws of dropout.
            None takes what the machine's plan says. In generation a CPU takes at most
            `batching.TOKENS` besides.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    learning_rate: float = 2e-3
    batch_size: int = 16
    epochs: int = 2
    weight_decay: float = 0.0
    schedule: Literal["linear", "constant"] = "constant"
    max_grad_norm: float = 1.0
    pool: int = 4
    score_batch_size: int = 32
    micro_batch_size: int | None = None

    def __post_init__(self) -> None:
        counts = ("learning_rate", "batch_size", "epochs", "pool", "score_batch_size")
        for key in counts if self.micro_batch_size is None else (*counts, "micro_batch_size"):
            if not getattr(self, key) > 0:
                raise FedLeaseError(f"training.{key} is {getattr(self, key)}: it must be above 0")
        for key in ("weight_decay", "max_grad_norm"):
            if not getattr(self, key) >= 0:
                raise FedLeaseError(f"training.{key} is {getattr(self, key)}: it must not be negative")

    def on(self, plan: Plan) -> Training:
        """Return the settings with what they leave to the machine as its plan says."""
        if self.micro_batch_size is not None or not plan.train_rows:
            return self
        return replace(self, micro_batch_size=plan.train_rows)


def fit(
    model: nn.Module,
    parameters: list[nn.Parameter],
    task: Task,
    data: Encoded,
    pad_id: int,
    settings: Training,
    *,
    epochs: int,
    seed: int,
    watch: Callable[[Step], None],
) -> None:
    """Train ``parameters`` in place with a fresh AdamW; batch order and dropout come from ``seed`` alone.

    Raises:
        DivergedError: the loss is not finite.
    """
    device = parameters[0].device
    torch.manual_seed(derive(seed, "dropout"))
    plan = [rows for epoch in range(epochs) for rows in _epoch(data, settings, seed, epoch)]
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    falling = settings.schedule == "linear"
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 1 - step / len(plan) if falling else 1.0
    )
    model.train()
    total, done, summed = len(data) * epochs, 0, 0.0
    for rows in plan:
        began = perf_counter()
        pieces = _pieces(rows, data, settings.micro_batch_size, device)
        value = _backward(model, task, data, pieces, pad_id, device)
        if settings.max_grad_norm > 0:
            torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        done, summed = done + len(rows), summed + value * len(rows)
        watch(Step(len(rows), done, total, summed / done, perf_counter() - began))


def _pieces(rows: list[int], data: Encoded, size: int | None, device: torch.device) -> list[list[int]]:
    """The batch, or rows of like length together where not all of it goes through the model at once."""
    most = len(rows) if size is None else size
    tokens = most_tokens(device) if data.answers else math.inf
    lengths = [data.lengths[row] for row in rows]
    if len(rows) <= most and len(rows) * max(lengths) <= tokens:
        return [rows]
    return [[rows[place] for place in piece] for piece in in_length_order(lengths, most, tokens)]


def _backward(
    model: nn.Module, task: Task, data: Encoded, pieces: list[list[int]], pad_id: int, device: torch.device
) -> float:
    """Add up the gradients of a batch's loss, a piece at a time; return the loss."""
    weights = [task.weight(data, rows) for rows in pieces]
    value = 0.0
    for rows, weight in zip(pieces, weights, strict=True):
        batch = task.collate(data, rows, pad_id)
        loss = task.loss(model, {name: tensor.to(device) for name, tensor in batch.items()})
        if len(pieces) > 1:
            loss = loss * (weight / sum(weights))
        value += float(loss.detach())
        if not torch.isfinite(loss):
            raise DivergedError(f"the training loss became {value}; lower training.learning_rate")
        loss.backward()  # type: ignore[no-untyped-call]
    return value


def _epoch(data: Encoded, settings: Training, seed: int, epoch: int) -> list[list[int]]:
    order = generator(seed, "batches", epoch)
    return batches(data.lengths, settings.batch_size, pool=settings.pool, generator=order)
