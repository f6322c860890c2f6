"""Handing out the rows of one source: some to test on, the others to train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import ClientId
from fedlease.core.seeds import generator
from fedlease.data.divide import Pool, divide
from fedlease.data.plans import ClientData, ClientPlan
from fedlease.data.sources import Example, Source, Table

T = TypeVar("T")
Key = tuple[str, ...]
"""The texts of a row, case and white space aside: rows of one key are the same row."""

HELD_OUT = 5
"""Where test rows come out of the training rows and no number is asked for, they are one in five."""


@dataclass(frozen=True)
class Opened:
    """A source with its rows apart: those to test on, the pool of others, the keys kept out of training."""

    source: Source
    table: Table
    test: list[Example]
    pool: list[Example]
    reserved: set[Key]


@dataclass(frozen=True)
class Dealt:
    """A source whose test rows are handed out: those of each client, and whether they overlap."""

    opened: Opened
    tests: list[list[Example]]
    shared: bool


def open_source(source: Source, group: Sequence[ClientPlan], table: Table, seed: int) -> Opened:
    """Shuffle a source's rows and set those to test on apart."""
    pool = shuffled(table.train, seed, "rows", source.key)
    if table.test is None:
        test = _cut(source, group, pool)
    else:
        test = shuffled(table.test, seed, "test rows", source.key)
    return Opened(source, table, test, pool, {row_key(example) for example in test})


def hold_out(opened: Opened, group: Sequence[ClientPlan], off: set[Key]) -> Opened:
    """Put other rows to test on aside, none of them among the keys of the real test rows."""
    pool = [example for example in opened.pool if row_key(example) not in off]
    test = _cut(opened.source, group, pool)
    return replace(opened, test=test, pool=pool, reserved=off | {row_key(example) for example in test})


def _cut(source: Source, group: Sequence[ClientPlan], pool: list[Example]) -> list[Example]:
    """Take test rows off the end of the pool."""
    start = len(pool) - _held_out(source, group, len(pool))
    test = pool[start:]
    del pool[start:]
    return test


def deal_tests(opened: Opened, group: Sequence[ClientPlan], seed: int) -> Dealt:
    """Give every client its test rows."""
    asked, test, source = [plan.test_rows for plan in group], opened.test, opened.source
    # Sharing test rows is a last resort; whether it is needed is a matter of the numbers asked for.
    shared = None not in asked and sum(rows or 0 for rows in asked) > len(test)
    if shared:
        tests = [_drawn(plan, source, test, seed) for plan in group]
    else:
        tests = _slices(test, _shares(source, group, asked, len(test), "test"))
    return Dealt(opened, tests, shared)


def deal_training(
    dealt: Dealt, group: Sequence[ClientPlan], tested: set[Key], seed: int
) -> dict[ClientId, ClientData]:
    """Hand out the training rows, less those that any client of the federation is tested on."""
    source, table = dealt.opened.source, dealt.opened.table
    kept_out = dealt.opened.reserved | tested
    pool = [example for example in dealt.opened.pool if row_key(example) not in kept_out]
    asked = [plan.train_rows for plan in group]
    dropped = len(dealt.opened.pool) - len(pool)
    sizes = _shares(source, group, asked, len(pool), "training", dropped)
    rows = dict(zip([plan.name for plan in group], _slices(range(len(pool)), sizes), strict=True))
    spare = list(range(sum(sizes), len(pool)))
    labels = Pool(str(source), source.key, table.labels, [example.label for example in pool])
    for shared in sorted(
        {plan.group for plan in group if plan.group}, key=lambda shared: (shared.name, shared.members)
    ):
        own = {member: rows[member] for member in shared.members}
        rows |= divide(shared, own, spare, labels, seed)
        used = {row for member in shared.members for row in rows[member]}
        spare = sorted({row for held in own.values() for row in held}.union(spare) - used)
    return {
        plan.name: ClientData(
            tuple(pool[row] for row in rows[plan.name]), tuple(test), table.labels, table.origin, dealt.shared
        )
        for plan, test in zip(group, dealt.tests, strict=True)
    }


def _held_out(source: Source, group: Sequence[ClientPlan], have: int) -> int:
    """Return how many rows of the one file are for testing: those asked for, else one in five."""
    asked = sum(plan.test_rows or 0 for plan in group)
    if any(plan.test_rows is None for plan in group):
        asked += max(have // HELD_OUT, len(group))
    if asked >= have:
        raise FedLeaseError(
            f"client '{group[0].name}': {source} has {have} rows for training and testing together, and "
            f"{asked} are needed to test the {len(group)} client(s) alone; ask for fewer test rows"
        )
    return asked


def _shares(
    source: Source,
    group: Sequence[ClientPlan],
    asked: Sequence[int | None],
    have: int,
    kind: str,
    dropped: int = 0,
) -> list[int]:
    """Return how many rows each client gets: what it asked for, or an equal part of what is left."""
    open_, need = asked.count(None), sum(rows or 0 for rows in asked)
    share = (have - need) // open_ if open_ else 0
    total = 0
    less = f" (less {dropped} that are test rows)" if dropped else ""
    for plan, rows in zip(group, asked, strict=True):
        total += max(share, 1) if rows is None else rows
        if total > have:
            raise FedLeaseError(
                f"client '{plan.name}': {source} has {have} {kind} rows{less} for its {len(group)} "
                f"client(s), and {need + open_} are needed; "
                f"lower the {'train' if kind == 'training' else 'test'}_rows"
            )
    return [share if rows is None else rows for rows in asked]


def _drawn(plan: ClientPlan, source: Source, test: Sequence[Example], seed: int) -> list[Example]:
    need = plan.test_rows or 0
    if need > len(test):
        raise FedLeaseError(
            f"client '{plan.name}': {source} has {len(test)} test rows, and {need} are needed; "
            "lower the test_rows"
        )
    return shuffled(test, seed, "test rows", source.key, plan.name)[:need]


def _slices(rows: Sequence[T], sizes: Sequence[int]) -> list[list[T]]:
    """Return consecutive parts of these sizes."""
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    return [list(rows[end - size : end]) for end, size in zip(ends, sizes, strict=True)]


def shuffled(rows: Sequence[T], seed: int, *purpose: str) -> list[T]:
    """Return the rows in the order that seed and purpose give."""
    order = torch.randperm(len(rows), generator=generator(seed, *purpose))
    return [rows[index] for index in order.tolist()]


def row_key(example: Example) -> Key:
    """Return what tells a row from others."""
    return tuple(" ".join(text.casefold().split()) for text in example.texts)
