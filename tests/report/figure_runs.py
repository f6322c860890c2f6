"""Runs for each of the paper's figures, and what a test reads off a figure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from made import FEDLEASE, TASKS, adapters, allocation, members, routing, run, with_labels
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedlease.core.adapter import Adapter, Model
from fedlease.report.figures.registry import find
from fedlease.report.records import Entry
from fedlease.tuner.export import save_lora

SMALL = {"sst2": 2, "qnli": 2}


def drawn(name: str, entries: list[Entry]) -> Figure:
    """The figure of the paper of that name, from these runs."""
    (picture,) = find(name)
    return picture.figure(entries)


def ticks(axes: Axes, along: str = "x") -> list[str]:
    return [tick.get_text() for tick in getattr(axes, f"get_{along}ticklabels")()]


def top_k(tasks: Any) -> list[Entry]:
    return [run(f"moe{k}", tasks=tasks, method={"name": "fedlora_moe", "top_k": k}) for k in (4, 2, 3)]


def fixed(tasks: Any = TASKS) -> list[Entry]:
    """Adaptive top-M beside fixed numbers of experts."""
    return [run(f"run{k}", tasks=tasks, method={**FEDLEASE, "top_k": k}) for k in (None, 3, 1)]


def routers(tasks: Any = TASKS) -> list[Entry]:
    return [run(kind, tasks=tasks, method={**FEDLEASE, "router": kind}) for kind in ("local", "cluster")]


def labelled(tasks: Any) -> list[Entry]:
    """A run that tells how many rows of each label its clients hold."""
    random = np.random.default_rng(0)
    return [
        with_labels(
            run(tasks=tasks), {c: random.multinomial(60, [0.3, 0.7]).tolist() for c in members(tasks)}
        )
    ]


def alone(folder: Path, tasks: Any) -> list[Entry]:
    """A run that left an adapter of every client."""
    for client, weights in adapters(tasks).items():
        save_lora(Model(Adapter(2, 8.0), weights), folder / "adapters" / client, "base")
    return [run("local_only", tasks=tasks, folder=folder)]


RUNS: dict[str, Callable[[Path, Any], list[Entry]]] = {
    "2": lambda _, tasks: [run(row, tasks=tasks) for row in ("FedIT", "FedLoRA-MoE")],
    "3": alone,
    "4": lambda _, tasks: top_k(tasks),
    "6a": lambda _, tasks: routers(tasks),
    "6b": lambda _, tasks: fixed(tasks),
    "6c": lambda _, tasks: [run("fedlease", tasks=tasks, method=FEDLEASE, routing=routing(tasks))],
    "7a": lambda _, tasks: [run("fedlease", tasks=tasks, allocation=allocation(tasks))],
    "7b": lambda _, tasks: [run("fedlease", tasks=tasks, allocation=allocation(tasks))],
    "7c": lambda _, tasks: [run("fedlease", tasks=tasks, allocation=allocation(tasks))],
    "8": lambda _, tasks: [run(f"m{i}", tasks=tasks, epochs=e) for i in range(7) for e in (1, 2)],
    "9": lambda _, tasks: labelled(tasks),
}
