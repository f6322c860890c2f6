"""Which rows go into a batch together: rows of like length, so that little of a batch is padding."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from fedlease.core.errors import FedLeaseError

TOKENS = 1024
"""Most tokens of rows with answers, padding counted, that a CPU takes the loss of at once, unless one row has
more.

So SmolLM2 takes less than 4 GiB in float32 at 8 rows of 256 tokens, and matrices of so many rows are large
enough for a CPU (docs/models.md).
"""


def batches(
    lengths: Sequence[int], batch_size: int, *, pool: int, generator: torch.Generator
) -> list[list[int]]:
    """Deal every row into exactly one batch, at random but with like lengths together.

    A random order of the rows is cut into pools of ``pool`` batches; each pool is sorted by length and cut
    into batches; the batches of all pools are then shuffled. With ``pool=1`` length plays no part in which
    rows meet. All batches but one are full.

    Args:
        lengths: tokens of every row.
        batch_size: rows of a batch.
        pool: batches whose rows are sorted together: larger means less padding and less mixing.
        generator: the source of both random orders.

    Raises:
        FedLeaseError: a batch size or a pool below 1.
    """
    _check(batch_size, pool)
    order: list[int] = torch.randperm(len(lengths), generator=generator).tolist()
    made: list[list[int]] = []
    for rows in _cut(order, pool * batch_size):
        made += _cut(sorted(rows, key=lengths.__getitem__), batch_size)
    return [made[index] for index in torch.randperm(len(made), generator=generator).tolist()]


def in_length_order(lengths: Sequence[int], batch_size: int, tokens: float = math.inf) -> list[list[int]]:
    """Return batches of rows sorted by length, ties in row order: for scoring, where order is free.

    Args:
        lengths: of the rows, in tokens.
        batch_size: most rows of a batch.
        tokens: most tokens of a batch, padding counted, unless one row has more.
    """
    _check(batch_size, 1)
    made: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):  # so a batch is as wide as the next row
        if not made or len(made[-1]) == batch_size or (len(made[-1]) + 1) * lengths[row] > tokens:
            made.append([])
        made[-1].append(row)
    return made


def most_tokens(device: torch.device) -> float:
    """Return how many tokens of rows with answers the loss is taken of at once: `TOKENS` on a CPU."""
    return TOKENS if device.type == "cpu" else math.inf


def _cut(rows: list[int], size: int) -> list[list[int]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _check(batch_size: int, pool: int) -> None:
    if batch_size < 1 or pool < 1:
        raise FedLeaseError(f"batch size {batch_size} and pool {pool} must both be at least 1")
