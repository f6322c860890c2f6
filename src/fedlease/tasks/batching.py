"""Which rows go into a batch together: rows of like length, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fedlease.core.errors import FedLeaseError


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


def in_length_order(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Return batches of rows sorted by length, ties in row order: for scoring, where order is free."""
    _check(batch_size, 1)
    return _cut(sorted(range(len(lengths)), key=lengths.__getitem__), batch_size)


def _cut(rows: list[int], size: int) -> list[list[int]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _check(batch_size: int, pool: int) -> None:
    if batch_size < 1 or pool < 1:
        raise FedLeaseError(f"batch size {batch_size} and pool {pool} must both be at least 1")
