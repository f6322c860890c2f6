"""Splitting a group's training rows among its clients, as `fedlease.data.splits` describes it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import ClientId
from fedlease.core.seeds import derive
from fedlease.data.splits import Classes, Dirichlet, Group, apportion

SERIES = 10
"""How often the partitioner, which draws eleven times, is asked for parts that are large enough."""


@dataclass(frozen=True)
class Pool:
    """The training rows of a source, known by their place in it.

    Attributes:
        source: for messages.
        key: seeds the draw.
        names: of the labels.
        labels: the label of every row.
    """

    source: str
    key: str
    names: tuple[str, ...]
    labels: Sequence[int]


def divide(
    group: Group, own: Mapping[ClientId, Sequence[int]], spare: Sequence[int], pool: Pool, seed: int
) -> dict[ClientId, list[int]]:
    """Return which rows of the pool each member has: all different, at least one each, in order.

    Args:
        group: the clients and how they share.
        own: the rows that each member would have without a split.
        spare: the rows that no client has.
        pool: the rows.
        seed: the run's seed.

    Raises:
        FedLeaseError: naming the group or client: too few rows, too few of a label, no draw that gives every
            client its least, another number of labels, or a split whose package is not installed.
    """
    rows = sorted(row for held in own.values() for row in held)
    split = group.split
    if isinstance(split, Classes):
        return _by_classes(split, {member: len(own[member]) for member in group.members}, rows, spare, pool)
    if len(rows) < split.min_rows * len(group.members):
        raise FedLeaseError(
            f"clients '{group.name}': {pool.source}: {len(rows)} training rows are too few for "
            f"{len(group.members)} client(s) with at least {split.min_rows} each; raise the train_rows"
        )
    if isinstance(split, Dirichlet):
        parts = _by_dirichlet(split, group, [pool.labels[row] for row in rows], pool, seed)
        return {m: [rows[place] for place in part] for m, part in zip(group.members, parts, strict=True)}
    if split.rows is not None:
        return {member: list(own[member]) for member in group.members}
    # Without the source in the seed, a client that mixes sources is as large in each.
    draw = numpy.random.default_rng(derive(seed, "split", group.name))
    count = len(group.members)
    if split.alpha is not None:
        drawn = draw.dirichlet([split.alpha] * count)
    else:
        assert split.sigma is not None  # Quantity refuses to be without any
        drawn = draw.lognormal(0, split.sigma, count)
    sizes = [split.min_rows + n for n in apportion(len(rows) - split.min_rows * count, drawn.tolist())]
    ends = [sum(sizes[: index + 1]) for index in range(count)]
    return {m: rows[end - size : end] for m, size, end in zip(group.members, sizes, ends, strict=True)}


def _by_classes(
    split: Classes, sizes: Mapping[ClientId, int], own: Sequence[int], spare: Sequence[int], pool: Pool
) -> dict[ClientId, list[int]]:
    left: list[list[int]] = [[] for _ in pool.names]
    for row in (*own, *spare):
        left[pool.labels[row]].append(row)
    parts = {}
    for (client, size), shares in zip(sizes.items(), split.shares, strict=True):
        if len(shares) != len(pool.names):
            raise FedLeaseError(
                f"client '{client}': split.shares has {len(shares)} shares for it, and {pool.source} has "
                f"{len(pool.names)} labels"
            )
        part: list[int] = []
        for label, need in enumerate(apportion(size, shares)):
            if need > len(left[label]):
                raise FedLeaseError(
                    f"client '{client}': {need} training rows of {pool.source} with label "
                    f"'{pool.names[label]}' are needed and {len(left[label])} are left; lower the train_rows "
                    "or change split.shares"
                )
            part += left[label][:need]
            del left[label][:need]
        parts[client] = sorted(part)
    return parts


def _by_dirichlet(
    split: Dirichlet, group: Group, labels: Sequence[int], pool: Pool, seed: int
) -> list[list[int]]:
    dataset, partitioner = _partitioner()
    table = dataset.from_dict({"label": list(labels), "row": list(range(len(labels)))})
    for series in range(SERIES):
        parts = partitioner(
            num_partitions=len(group.members),
            partition_by="label",
            alpha=float(split.alpha),
            min_partition_size=split.min_rows,
            self_balancing=False,
            shuffle=False,
            seed=derive(seed, "split", group.name, pool.key, series),
        )
        parts.dataset = table
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it tells of every draw that it repeats
                return [sorted(parts.load_partition(n)["row"]) for n in range(len(group.members))]
        except ValueError:  # no draw of the series was good enough
            continue
    raise FedLeaseError(
        f"clients '{group.name}': {pool.source}: no draw with split.alpha {split.alpha:g} gives every "
        f"client {split.min_rows} of the {len(labels)} rows; raise split.alpha or train_rows, or lower "
        "split.min_rows"
    )


def _partitioner() -> tuple[Any, Any]:
    try:
        from datasets import Dataset
        from flwr_datasets.partitioner import DirichletPartitioner
    except ImportError as error:
        raise FedLeaseError(
            "split by = \"dirichlet\" needs flwr-datasets: pip install 'fedlease[partition]'"
        ) from error
    return Dataset, DirichletPartitioner
