"""Which distance finds the tasks of clients, and when is one expert enough? Real rows, real adapters.

    python benchmarks/allocation.py --data DIR [--seeds 0 1] [--rates 2e-3] [--rounds 2] [--clients 5]

Trains a plain LoRA adapter for each client of the four GLUE tasks, alone, as FedLEASE's initial phase does.
After every round it prints, over seeded draws of clients: the adjusted Rand index against the tasks
by what is compared (16 clients, k from 2 to 8), and of the default how often the one-expert rule errs, and
what clusters share, which it goes by where the silhouette is weak. Writes a JSON beside it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table
from sklearn.metrics import adjusted_rand_score

from fedlease.algorithms.alone import WithLater, as_first
from fedlease.allocation import Allocation, cluster
from fedlease.core.weights import Weights, select
from fedlease.data.catalog import GLUE
from fedlease.engines.inprocess import InProcess
from fedlease.experiments.places import settle
from fedlease.experiments.prepare import prepare
from fedlease.experiments.spec import make_spec

COMPARED: dict[str, tuple[Any, bool, bool]] = {
    "B (paper)": ("b", False, False),
    "B, centred": ("b", True, False),
    "B A": ("product", False, False),
    "B A, centred": ("product", True, False),
    "B A, centred, and what came later (default)": ("product", True, True),
}
"""What clients may be compared by: the distance, whether the mean is taken out, and `WithLater`."""

TASKS = {"of one task": (4,), "of two tasks": (2, 2), "of four tasks": (4, 4, 4, 4)}
"""Draws whose shares are printed: clients of each of so many tasks."""

DEFAULT = ("product", True, True)
DRAWS = 60


def adapters(seed: int, rate: float, given: argparse.Namespace) -> Iterator[dict[str, Weights]]:
    """What every client of FedLEASE sends after one round alone, then after each further one."""
    spec = make_spec(
        {
            "seed": seed,
            "method": {"name": "local_only", "rank": 4},
            "training": {"learning_rate": rate},
            "model": {"threads": 1},
            "data": {"root": str(given.data.resolve())},
            "clients": [
                {"name": task, "data": task, "count": given.clients, "train_rows": given.rows, "test_rows": 1}
                for task in GLUE
            ],
        }
    )
    federation = prepare(spec, settle(spec, Path.cwd()))
    engine = InProcess(federation.algorithm, federation.sites)
    state = federation.algorithm.init(federation.base.modules, seed)
    first: dict[str, Weights] = {}
    for _ in range(given.rounds):
        state = federation.algorithm.round(state, engine)
        now = dict(engine.kept)
        first = first or {name: as_first(weights) for name, weights in now.items()}
        yield {name: {**weights, **first[name]} for name, weights in now.items()}


def draws(
    held: dict[str, Weights], sizes: Sequence[int], seed: int
) -> Iterator[tuple[dict[str, Weights], list[str]]]:
    """Random clients, ``sizes[i]`` of the i-th of randomly chosen tasks, with each client's task."""
    dice = random.Random(f"{seed} {sizes}")
    for _ in range(DRAWS):
        tasks = dice.sample(sorted(GLUE), len(sizes))
        names = sorted(
            name
            for task, size in zip(tasks, sizes, strict=True)
            for name in dice.sample(sorted(n for n in held if n.startswith(task + "-")), size)
        )
        yield {name: held[name] for name in names}, [name.partition("-")[0] for name in names]


def agreement(held: dict[str, Weights], kind: tuple[Any, bool, bool], seed: int) -> float:
    """Mean adjusted Rand index over draws of 4 x 4 clients, at the k that the silhouette chooses."""
    found = []
    for clients, tasks in draws(viewed(held, kind), (4, 4, 4, 4), seed):
        allocation = cluster(clients, distance=kind[0], centered=kind[1], min_experts=2)
        found.append(adjusted_rand_score(tasks, allocation.labels))
    return fmean(found)


def viewed(held: dict[str, Weights], kind: tuple[Any, bool, bool]) -> dict[str, Weights]:
    """What clients are compared by."""
    distance, _, later = kind
    return {name: WithLater(up, distance) if later else select(up, ("A", "B")) for name, up in held.items()}


def decided(held: dict[str, Weights], sizes: Sequence[int], seed: int) -> list[Allocation]:
    """The default's allocations of draws."""
    return [cluster(clients) for clients, _ in draws(viewed(held, DEFAULT), sizes, seed)]


def one_expert(held: dict[str, Weights], sizes: Sequence[int], seed: int) -> float:
    """How often all clients of a draw are given one expert."""
    return fmean(found.num_experts == 1 for found in decided(held, sizes, seed))


def measures(held: dict[str, Weights], seed: int, most: int) -> dict[str, float]:
    """Everything that is printed of one round."""
    column = {f"ARI: {name}": agreement(held, kind, seed) for name, kind in COMPARED.items()}
    for size in (3, 4, most):
        column[f"one task split: {size} clients"] = 1 - one_expert(held, (size,), seed)
    for sizes in ((2, 2), (4, 4), (most, 2), (4, 4, 4, 4)):
        column[f"left as one: {' + '.join(map(str, sizes))}"] = one_expert(held, sizes, seed)
    for name, counts in TASKS.items():
        shares = [found.shared for found in decided(held, counts, seed) if found.shared is not None]
        column[f"clusters share, least: clients {name}"] = min(shares)
        column[f"clusters share, most: clients {name}"] = max(shares)
    return column


def main() -> None:
    """Measure, print, write."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options.add_argument("--rates", type=float, nargs="+", default=[2e-3], help="of learning")
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--clients", type=int, default=5, help="of each task, at least 4")
    options.add_argument("--rows", type=int, default=300, help="of each client")
    options.add_argument("--out", type=Path, default=Path("runs/benchmark-allocation.json"))
    given = options.parse_args()
    found: dict[str, dict[str, float]] = {}
    for seed, rate in itertools.product(given.seeds, given.rates):
        for number, held in enumerate(adapters(seed, rate, given), start=1):
            found[f"seed {seed}, {rate:g}, round {number}"] = measures(held, seed, given.clients)
    table = Table("", *found, title=f"{DRAWS} draws of {given.clients} clients a task")
    for row in next(iter(found.values())):
        table.add_row(row, *(f"{column[row]:.2f}" for column in found.values()))
    Console(width=120).print(table)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
