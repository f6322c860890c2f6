"""What a record's ``routing`` tells of experts: how many a token uses, how much of each, how undecided."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedlease.report.records import Record

Used = Mapping[str, Any]
"""What one module of one client does with its experts, see `fedlease.training.usage.Usage`."""


def most_experts(record: Record) -> int:
    """The number of experts that routers choose from."""
    return max(len(of["weights"]) for modules in record["routing"].values() for of in modules.values())


def by_layer(
    record: Record, clients: Sequence[str], value: Callable[[Used], float]
) -> tuple[list[int | str], NDArray[np.float64]]:
    """Return the layers, and the mean of a value over the modules of each: [layers, clients].

    A layer is the first number in a module's path; a module without one is a layer of its own. A client of
    which nothing is told has nan.
    """
    routing = record["routing"]
    found: dict[int | str, dict[str, list[float]]] = {}
    for client in clients:
        for path, of in routing.get(client, {}).items():
            found.setdefault(_layer(path), {}).setdefault(client, []).append(value(of))
    layers = sorted(found, key=lambda layer: (isinstance(layer, str), layer))
    nothing = [float("nan")]
    means = [[fmean(found[one].get(client, nothing)) for client in clients] for one in layers]
    return layers, np.array(means)


def shares(of: Used) -> NDArray[np.float64]:
    """The mean weights of the experts, rescaled to sum to 1: Eq. 5 does not normalise them."""
    weights = np.asarray(of["weights"], dtype=float)
    return np.asarray(weights / weights.sum())


def entropy_of_means(of: Used) -> float:
    """Return the entropy of the mean weights in bits.

    It says how many experts are used over all tokens, and is never below the mean entropy of the tokens when
    weights sum to 1: a router may be sure of every token, and send each to another expert.
    """
    known = shares(of)
    known = known[known > 0]
    return float(-(known * np.log2(known)).sum()) + 0.0


def load(record: Record, client: str) -> NDArray[np.float64] | None:
    """The share of each expert in what a client uses, mean over its modules; None where nothing is told."""
    modules = record["routing"].get(client)
    return np.mean([shares(of) for of in modules.values()], axis=0) if modules else None


def _layer(path: str) -> int | str:
    number = re.search(r"(?:^|\.)(\d+)(?:\.|$)", path)
    return int(number.group(1)) if number else path
