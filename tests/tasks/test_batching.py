"""Every row in exactly one batch, like lengths together, and the seed decides."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlease.core.errors import FedLeaseError
from fedlease.core.seeds import generator
from fedlease.tasks.batching import batches, in_length_order

LENGTHS = st.lists(st.integers(1, 50), max_size=120)
SIZES = st.integers(1, 40)


@settings(max_examples=200, deadline=None)
@given(lengths=LENGTHS, batch_size=SIZES, pool=st.integers(1, 5), seed=st.integers(0, 3))
def test_every_row_once_in_full_batches(lengths: list[int], batch_size: int, pool: int, seed: int) -> None:
    made = batches(lengths, batch_size, pool=pool, generator=generator(seed, "x"))
    assert sorted(row for batch in made for row in batch) == list(range(len(lengths)))
    assert len(made) == -(-len(lengths) // batch_size)
    assert sum(len(batch) != batch_size for batch in made) <= 1
    for batch in made:
        assert [lengths[row] for row in batch] == sorted(lengths[row] for row in batch)
    assert made == batches(lengths, batch_size, pool=pool, generator=generator(seed, "x"))


@settings(max_examples=100, deadline=None)
@given(lengths=LENGTHS, batch_size=SIZES)
def test_one_pool_over_everything_is_length_order_shuffled(lengths: list[int], batch_size: int) -> None:
    made = batches(lengths, batch_size, pool=len(lengths) + 1, generator=generator(0))
    sizes = sorted([lengths[row] for row in batch] for batch in made)
    assert sizes == sorted([lengths[row] for row in batch] for batch in in_length_order(lengths, batch_size))


@settings(max_examples=100, deadline=None)
@given(lengths=LENGTHS, batch_size=SIZES)
def test_in_length_order(lengths: list[int], batch_size: int) -> None:
    made = in_length_order(lengths, batch_size)
    flat = [row for batch in made for row in batch]
    assert flat == sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    assert all(len(batch) == batch_size for batch in made[:-1])


@settings(max_examples=100, deadline=None)
@given(lengths=LENGTHS, batch_size=SIZES, tokens=st.integers(1, 200))
def test_a_batch_has_no_more_tokens_than_it_may(lengths: list[int], batch_size: int, tokens: int) -> None:
    made = in_length_order(lengths, batch_size, tokens)
    assert [row for batch in made for row in batch] == sorted(
        range(len(lengths)), key=lambda row: (lengths[row], row)
    )
    for batch in made:
        assert len(batch) <= batch_size
        assert len(batch) == 1 or len(batch) * lengths[batch[-1]] <= tokens
    for batch, following in pairwise(made):  # one row more had been too many
        assert len(batch) == batch_size or (len(batch) + 1) * lengths[following[0]] > tokens


def test_rows_and_batches_are_shuffled() -> None:
    lengths = list(range(100))
    one, other = (batches(lengths, 10, pool=2, generator=generator(seed)) for seed in (0, 1))
    assert one != other
    assert {frozenset(batch) for batch in one} != {frozenset(batch) for batch in other}
    sorted_pool = batches(lengths, 10, pool=10, generator=generator(0))
    assert sorted(sorted_pool) == in_length_order(lengths, 10)
    assert sorted_pool != in_length_order(lengths, 10)


def test_pools_save_padding() -> None:
    lengths: list[int] = torch.randint(1, 100, (1000,), generator=generator(0)).tolist()

    def padded(pool: int) -> int:
        made = batches(lengths, 20, pool=pool, generator=generator(1))
        return sum(len(batch) * max(lengths[row] for row in batch) for batch in made)

    assert padded(10) < 0.7 * padded(1)
    assert padded(50) <= padded(10)


def test_sizes_below_one_are_refused() -> None:
    for size, pool in ((0, 1), (1, 0)):
        with pytest.raises(FedLeaseError, match=f"batch size {size} and pool {pool} must both be at least 1"):
            batches([1], size, pool=pool, generator=generator(0))
    with pytest.raises(FedLeaseError, match="batch size 0"):
        in_length_order([1], 0)
