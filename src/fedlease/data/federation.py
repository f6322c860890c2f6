"""Which rows each client holds: disjoint parts of its sources, drawn by the run's seed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import ClientId
from fedlease.data.dealing import deal_tests, deal_training, hold_out, open_source, row_key, shuffled
from fedlease.data.plans import ClientData, ClientPlan
from fedlease.data.sources import Source, Table, load

__all__ = ["ClientData", "ClientPlan", "federate"]


def federate(
    plans: Sequence[ClientPlan], root: Path | None, seed: int, *, held_out: bool = False
) -> dict[ClientId, ClientData]:
    """Give every client its training and test rows; the result is sorted by client.

    The rows of a source are shuffled by (seed, source) and handed out to its clients in order of their
    names, so the order of ``plans`` changes nothing. No row of a source is in two training parts, and none
    has the texts (case and white space aside) of one of the source's test rows or of a row that any client
    of the federation is tested on. Other than by those, clients of other sources change nothing.

    A group's split is of training rows: test rows are drawn from the source, whatever the client trains on.

    Args:
        plans: the clients, with different names.
        root: the folder that relative paths of sources are under, see `sources.load`.
        seed: the run's seed.
        held_out: test the clients on rows that are put aside from the training rows of their source; the
            test rows that they would have been given with this seed are neither tested nor trained on.

    Raises:
        FedLeaseError: naming the client: two of one name, fewer rows than asked for, two clients that read
            the same training rows but split or label them differently, sources that cannot be mixed, a group
            that is not whole; and all that `sources.load` and `splits.divide` raise.
    """
    by_source: dict[Source, list[ClientPlan]] = {}
    for plan in sorted(plans, key=lambda plan: plan.name):
        for part in plan.parts:
            by_source.setdefault(part.source, []).append(part)
    _check(plans, by_source)
    tables = {source: load(source, root) for source in by_source}
    _check_labels(plans, tables)
    opened = [open_source(source, group, tables[source], seed) for source, group in by_source.items()]
    if held_out:
        off = {row_key(example) for each in opened for example in each.test}
        opened = [hold_out(each, group, off) for each, group in zip(opened, by_source.values(), strict=True)]
    dealt = [deal_tests(each, group, seed) for each, group in zip(opened, by_source.values(), strict=True)]
    tested = {row_key(example) for each in dealt for test in each.tests for example in test}
    held: dict[ClientId, dict[Source, ClientData]] = {plan.name: {} for plan in plans}
    for each, group in zip(dealt, by_source.values(), strict=True):
        for client, data in deal_training(each, group, tested, seed).items():
            held[client][each.opened.source] = data
    return {plan.name: _mixed(plan, held[plan.name], seed) for plan in sorted(plans, key=lambda p: p.name)}


def _check(plans: Sequence[ClientPlan], by_source: Mapping[Source, Sequence[ClientPlan]]) -> None:
    if not plans:
        raise FedLeaseError("a federation needs at least one client")
    names = [plan.name for plan in plans]
    for plan in plans:
        if names.count(plan.name) > 1:
            raise FedLeaseError(f"two clients are called '{plan.name}'; every client needs its own name")
        members = plan.group.members if plan.group else ()
        same = [other for other in plans if other.name in members and other.group == plan.group]
        if len(same) != len(members) or any(other.sources != plan.sources for other in same):
            raise FedLeaseError(
                f"client '{plan.name}': the clients it shares rows with are not all there with the same data"
            )
    seen: dict[tuple[object, ...], Source] = {}
    for source in by_source:
        # Split one way for this client and another way for that, one's test rows would train the other.
        file = os.path.normpath(source.train) if source.train else None
        rows = (file, source.hub, source.hub_config, source.train_split, source.generated)
        first = seen.setdefault(rows, source)
        if first != source:
            one, other = (by_source[s][0].name for s in (first, source))
            raise FedLeaseError(
                f"clients '{one}' and '{other}' read the same rows of {source} but differ in columns, test "
                "rows or label names; give both the same"
            )


def _check_labels(plans: Sequence[ClientPlan], tables: Mapping[Source, Table]) -> None:
    for plan in plans:
        counts = [len(tables[source].labels) for source in plan.sources]
        if len(set(counts)) > 1:
            told = " and ".join(f"{source} has {n}" for source, n in zip(plan.sources, counts, strict=True))
            raise FedLeaseError(
                f"client '{plan.name}': mixed data sets need the same number of labels, and {told}"
            )


def _mixed(plan: ClientPlan, held: Mapping[Source, ClientData], seed: int) -> ClientData:
    """Put a client's rows of several sources together; label names that differ are joined by ``/``."""
    parts = [held[source] for source in plan.sources]
    if len(parts) == 1:
        return parts[0]
    names = [dict.fromkeys(of_one) for of_one in zip(*(part.labels for part in parts), strict=True)]
    train, test = (
        [row for part in parts for row in part.train],
        [row for part in parts for row in part.test],
    )
    return ClientData(
        tuple(shuffled(train, seed, "mixed rows", plan.name)),
        tuple(shuffled(test, seed, "mixed test rows", plan.name)),
        tuple("/".join(of_one) for of_one in names),
        " and ".join(part.origin for part in parts),
        any(part.shared_test for part in parts),
    )
