"""Which rows each client holds: disjoint parts of its source, drawn by the run's seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import ClientId
from fedlease.core.seeds import generator
from fedlease.data.sources import Example, Source, Table, load

T = TypeVar("T")
Key = tuple[str, ...]
"""The texts of a row, case and white space aside: rows of one key are the same row."""

HELD_OUT = 5
"""Where one file is all there is and no number of test rows is asked for, one row in five is held out."""


@dataclass(frozen=True)
class ClientPlan:
    """What one client is to hold.

    ``train_rows`` and ``test_rows`` are at least 1, or None: then the clients of a source that say None
    share equally what the others leave.
    """

    name: ClientId
    source: Source
    task: str
    train_rows: int | None = None
    test_rows: int | None = None

    def __post_init__(self) -> None:
        for key, rows in (("train_rows", self.train_rows), ("test_rows", self.test_rows)):
            if rows is not None and rows < 1:
                raise FedLeaseError(f"client '{self.name}': {key} is {rows}; it must be at least 1")


@dataclass(frozen=True)
class ClientData:
    """The rows of one client.

    ``shared_test`` tells that the source has too few test rows for disjoint parts, so that clients of the
    source were tested on draws that overlap.
    """

    train: tuple[Example, ...]
    test: tuple[Example, ...]
    labels: tuple[str, ...]
    origin: str
    shared_test: bool


def federate(plans: Sequence[ClientPlan], root: Path | None, seed: int) -> dict[ClientId, ClientData]:
    """Give every client its training and test rows; the result is sorted by client.

    The rows of a source are shuffled by (seed, source) and handed out to its clients in order of their
    names, so the order of ``plans`` changes nothing. No row of a source is in two training parts, and none
    has the texts (case and white space aside) of one of the source's test rows or of a row that any client
    of the federation is tested on. Other than by those, clients of other sources change nothing.

    Args:
        plans: the clients, with different names.
        root: the folder that relative paths of sources are under, see `sources.load`.
        seed: the run's seed.

    Raises:
        FedLeaseError: naming the client: two of one name, fewer rows than asked for, two clients that read
            the same training rows but split or label them differently; and all that `sources.load` raises.
    """
    by_source: dict[Source, list[ClientPlan]] = {}
    for plan in sorted(plans, key=lambda plan: plan.name):
        by_source.setdefault(plan.source, []).append(plan)
    _check(plans, list(by_source))
    dealt = [_deal_tests(source, group, load(source, root), seed) for source, group in by_source.items()]
    tested = {_key(example) for source_tests in dealt for test in source_tests.tests for example in test}
    clients: dict[ClientId, ClientData] = {}
    for source_tests, group in zip(dealt, by_source.values(), strict=True):
        clients.update(_deal_training(source_tests, group, tested))
    return dict(sorted(clients.items()))


def _check(plans: Sequence[ClientPlan], sources: Sequence[Source]) -> None:
    if not plans:
        raise FedLeaseError("a federation needs at least one client")
    names = [plan.name for plan in plans]
    for name in names:
        if names.count(name) > 1:
            raise FedLeaseError(f"two clients are called '{name}'; every client needs its own name")
    seen: dict[tuple[object, ...], Source] = {}
    for source in sources:
        # Split one way for this client and another way for that, one's test rows would train the other.
        rows = (source.train, source.hub, source.hub_config, source.train_split, source.generated)
        first = seen.setdefault((*rows, source.text, source.label), source)
        if first != source:
            one, other = (next(plan.name for plan in plans if plan.source == s) for s in (first, source))
            raise FedLeaseError(
                f"clients '{one}' and '{other}' read the same rows of {source} but differ in test rows or "
                "label names; give both the same"
            )


@dataclass(frozen=True)
class _Dealt:
    """A source whose test rows are handed out.

    ``tests`` are those of each client, ``reserved`` the keys of all there are, ``pool`` the other rows.
    """

    source: Source
    table: Table
    tests: list[list[Example]]
    shared: bool
    reserved: set[Key]
    pool: list[Example]


def _deal_tests(source: Source, group: Sequence[ClientPlan], table: Table, seed: int) -> _Dealt:
    pool = _shuffled(table.train, seed, "rows", source.key)
    test_asked = [plan.test_rows for plan in group]
    if table.test is None:
        held_out = _held_out(source, group, len(pool))
        pool, test = pool[: len(pool) - held_out], pool[len(pool) - held_out :]
    else:
        test = _shuffled(table.test, seed, "test rows", source.key)
    # Sharing test rows is a last resort; whether it is needed is a matter of the numbers asked for.
    shared = None not in test_asked and sum(rows or 0 for rows in test_asked) > len(test)
    if shared:
        tests = [_drawn(plan, source, test, seed) for plan in group]
    else:
        tests = _slices(test, _shares(source, group, test_asked, len(test), "test"))
    return _Dealt(source, table, tests, shared, {_key(example) for example in test}, pool)


def _deal_training(
    dealt: _Dealt, group: Sequence[ClientPlan], tested: set[Key]
) -> dict[ClientId, ClientData]:
    """Hand out the training rows, less those that any client of the federation is tested on."""
    table = dealt.table
    kept_out = dealt.reserved | tested
    pool = [example for example in dealt.pool if _key(example) not in kept_out]
    asked = [plan.train_rows for plan in group]
    dropped = len(dealt.pool) - len(pool)
    trains = _slices(pool, _shares(dealt.source, group, asked, len(pool), "training", dropped))
    return {
        plan.name: ClientData(tuple(train), tuple(test), table.labels, table.origin, dealt.shared)
        for plan, train, test in zip(group, trains, dealt.tests, strict=True)
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
    return _shuffled(test, seed, "test rows", source.key, plan.name)[:need]


def _slices(rows: Sequence[T], sizes: Sequence[int]) -> list[list[T]]:
    """Return consecutive parts of these sizes."""
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    return [list(rows[end - size : end]) for end, size in zip(ends, sizes, strict=True)]


def _shuffled(rows: Sequence[T], seed: int, *purpose: str) -> list[T]:
    order = torch.randperm(len(rows), generator=generator(seed, *purpose))
    return [rows[index] for index in order.tolist()]


def _key(example: Example) -> Key:
    return tuple(" ".join(text.casefold().split()) for text in example.texts)
