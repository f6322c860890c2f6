"""`fedlease.allocate`: how many experts for adapters that are there already, and whose is whose."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from torch import Tensor

from fedlease.allocation import Allocation, Distance, cluster
from fedlease.core.errors import FedLeaseError
from fedlease.core.peft_names import core_name
from fedlease.core.weights import Weights

Folder: TypeAlias = "str | os.PathLike[str]"


def allocate(
    adapters: Sequence[Folder] | Mapping[str, Folder | Weights],
    max_experts: int = 8,
    *,
    distance: Distance = "product",
    centered: bool = True,
    num_experts: int | None = None,
    min_experts: int = 1,
) -> Allocation:
    """Return how many experts the clients behind LoRA adapters want, and which client has which.

    >>> allocation = allocate(["clinic-a", "clinic-b", "bank-a", "bank-b"])  # doctest: +SKIP
    >>> allocation.num_experts, allocation.labels, allocation.scores  # doctest: +SKIP

    Args:
        adapters: folders that PEFT wrote, named by the folder (and its parents, as far as it takes to tell
            them apart); or client -> folder or state dict, in PEFT's names
            (``base_model.model.X.lora_A.weight``) or fedlease's (``X.A`` [r, d], ``X.B`` [l, r]). A folder's
            B is scaled by its config (alpha / r); a state dict has no config and is taken as it is, so
            where alpha / r differs between clients or from folders beside it, give B times alpha / r.
        max_experts: the highest number of experts to consider.
        distance: ``"product"`` compares the updates B A, ``"b"`` the B matrices (Eq. 2 of FedLEASE).
        centered: take out the mean update of all clients first.
        num_experts: a fixed number of experts.
        min_experts: 2 never takes one expert for all, as in the paper.

    Raises:
        FedLeaseError: a folder given twice or unreadable, tensors that are no plain LoRA, or adapters that
            cannot be compared; see `fedlease.allocation.cluster`.
    """
    if isinstance(adapters, str | os.PathLike):
        raise FedLeaseError(f"{os.fspath(adapters)!r} is one adapter: give a list of adapter folders")
    named = adapters if isinstance(adapters, Mapping) else _named(adapters)
    for adapter in named.values():  # what is missing is said before anything is compared
        if not isinstance(adapter, Mapping):
            _check(adapter)
    return cluster(
        _Read(named),
        max_experts=max_experts,
        num_experts=num_experts,
        min_experts=min_experts,
        distance=distance,
        centered=centered,
    )


class _Read(Mapping[str, Weights]):
    """Adapters by client, read each time they are asked for, so that not all are in memory."""

    def __init__(self, adapters: Mapping[str, Folder | Weights]) -> None:
        self._adapters = adapters

    def __getitem__(self, client: str) -> Weights:
        return _weights(client, self._adapters[client])

    def __iter__(self) -> Iterator[str]:
        return iter(self._adapters)

    def __len__(self) -> int:
        return len(self._adapters)


def _named(folders: Sequence[Folder]) -> dict[str, Folder]:
    """Name each folder by as few of its last path components as tell it apart from all others."""
    paths = [Path(folder).resolve() for folder in folders]
    twice = [str(path) for path, times in Counter(paths).items() if times > 1]
    if twice:
        raise FedLeaseError(f"adapter folder {twice[0]} is given twice: give each client's once")
    names = [path.name for path in paths]
    depth = 1
    while len(set(names)) < len(names):
        depth += 1
        times = Counter(names)
        names = [
            Path(*path.parts[-depth:]).as_posix() if times[name] > 1 else name
            for path, name in zip(paths, names, strict=True)
        ]
    return dict(zip(names, folders, strict=True))


def _check(folder: Folder) -> None:
    from fedlease.tuner.export import read_config  # here, so that state dicts need no peft

    read_config(Path(folder))


def _weights(client: str, adapter: Folder | Weights) -> Weights:
    if isinstance(adapter, Mapping):
        return _core_names(client, adapter)
    from fedlease.tuner.export import read_lora  # here, so that state dicts need no peft

    return read_lora(adapter)


def _core_names(client: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return A and B under fedlease's names; a saved head and the like is left out."""
    weights = {}
    for key, tensor in state.items():
        name = core_name(key, f"client {client!r}") or (key if key.endswith((".A", ".B")) else None)
        if name is None:
            continue
        if name in weights:
            raise FedLeaseError(f"client {client!r} has two adapters for {name!r}: give the weights of one")
        weights[name] = tensor
    return weights
