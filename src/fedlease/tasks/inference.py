"""Running a network without training it: rows of like length together, and word of every batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch

from fedlease.tasks.batching import in_length_order


@dataclass(frozen=True)
class Step:
    """One batch done: rows, seconds, the mean loss of the piece of work so far."""

    rows: int
    done: int
    total: int
    loss: float | None
    seconds: float


@dataclass(frozen=True)
class Inference:
    """How a task runs a network that does not train.

    Attributes:
        tokenizer: the base model's.
        pad_id: the id batches are padded with.
        batch_size: rows of a batch.
        device: where the network is.
        watch: told of every batch.
    """

    tokenizer: Any
    pad_id: int
    batch_size: int
    device: torch.device
    watch: Callable[[Step], None]

    def batches(self, lengths: Sequence[int], tokens: float = math.inf) -> Iterator[list[int]]:
        """Yield the rows of each batch, the shortest first; the time until the next is asked for is told.

        Args:
            lengths: of the rows, in tokens.
            tokens: most tokens of a batch, see `in_length_order`.
        """
        done = 0
        for rows in in_length_order(lengths, self.batch_size, tokens):
            began = perf_counter()
            yield rows
            done += len(rows)
            self.watch(Step(len(rows), done, len(lengths), None, perf_counter() - began))
