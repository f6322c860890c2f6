"""The setting of the paper's experiments on GLUE: tasks, sizes, methods at comparable workload."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fedlease.experiments.presets.kinds import Cell, Preset, Size, Values

TASKS = ("sst2", "qnli", "mrpc", "qqp")

SMALL = Size(
    name="small",
    base={
        "model": {"name": "minilm", "max_length": 128, "threads": 1},
        "rounds": 8,
        "score_every": 2,
        "training": {"batch_size": 16, "epochs": 2},
    },
    train_rows=250,
    test_rows=200,
    clients=4,
    seeds=(0, 1, 2),
    rates=(1e-3, 3e-3, 5e-3),
    trial={"rounds": 6, "score_every": 6, "seed": 0, "data": {"held_out": True}},
    trial_clients=2,
    trial_rows=400,
)
"""For two cores: MiniLM, eight rounds. Rates are three of the paper's grid, tried on half the clients.

Trials have six rounds: after fewer, a method that begins with three alone is told by those.
"""

PAPER = Size(
    name="paper",
    base={
        "model": {"name": "FacebookAI/roberta-large", "max_length": 128},
        "rounds": 25,
        "score_every": 5,
        "training": {"batch_size": 128, "epochs": 2},
    },
    train_rows=1000,
    test_rows=200,
    clients=4,
    seeds=(0, 1, 2, 3, 4),
    rates=(1e-4, 3e-4, 5e-4, 1e-3, 3e-3, 5e-3),
    trial={"score_every": 25, "seed": 0, "data": {"held_out": True}},
    trial_clients=4,
    trial_rows=200,
)
"""Appendix A; rows of a client as in the published code."""

SIZES = {"small": SMALL, "paper": PAPER}


def methods(rank: int = 4) -> dict[str, dict[str, Any]]:
    """The methods of Tables 1 and 4 to 7: FedLEASE at a rank, the others at comparable workload."""
    return {
        "FedIT": {"name": "fedit", "rank": 2 * rank},
        "FFA-LoRA": {"name": "ffa_lora", "rank": 2 * rank},
        "FedDPA": {"name": "feddpa", "rank": rank},
        "FedSA-LoRA": {"name": "fedsa_lora", "rank": 2 * rank},
        "IFCA + LoRA": {"name": "ifca_lora", "rank": 2 * rank, "clusters": 4},
        "FedLEASE (paper)": {"name": "fedlease_paper", "rank": rank},
        "FedLEASE": {"name": "fedlease", "rank": rank},
    }


RATE_OF = {"fedlease_paper": "fedlease"}
"""Methods that take the learning rate found for another one."""


MRPC_ROWS = 2800
"""MRPC has 3,668 training rows; the rest of them is for trials to be scored on."""


def clients(
    size: Size, counts: Mapping[str, int] | None = None, mrpc: int = MRPC_ROWS, **keys: Any
) -> list[dict[str, Any]]:
    """The ``[[clients]]`` entries: so many of every task (the size's, unless said), with further keys.

    Clients of MRPC have fewer rows where there are not enough: ``mrpc`` for all of them.
    """
    counts = dict.fromkeys(TASKS, size.clients) if counts is None else counts
    return [
        {
            "name": task,
            "data": task,
            "count": count,
            "train_rows": min(size.train_rows, mrpc // count) if task == "mrpc" else size.train_rows,
            "test_rows": size.test_rows,
            **keys,
        }
        for task, count in counts.items()
    ]


def cell(row: str, size: Size, method: Values, section: str = "", **changes: Any) -> Cell:
    """An entry: the size's spec with a method, and keys of the spec that differ."""
    spec = {**size.base, "clients": clients(size), **changes, "method": dict(method)}
    name = str(method["name"])
    return Cell(row, spec, RATE_OF.get(name, name), section)


def every_method(size: Size, section: str = "", rank: int = 4, **changes: Any) -> tuple[Cell, ...]:
    """An entry for each method of Table 1."""
    return tuple(cell(row, size, method, section, **changes) for row, method in methods(rank).items())


def trials(size: Size) -> dict[str, Values]:
    """The specs on which learning rates are chosen: every method on the setting of Table 1, held-out rows."""
    every = {str(method["name"]): method for method in methods().values()}
    return {name: tried_on_table1(size, method) for name, method in every.items() if name not in RATE_OF}


def tried_on_table1(size: Size, method: Values) -> Values:
    """The spec of a trial: a method on the setting of Table 1, scored on held-out training rows."""
    counts = dict.fromkeys(TASKS, size.trial_clients)
    there = clients(size, counts, test_rows=size.trial_rows)
    return {**size.base, **size.trial, "clients": there, "method": dict(method)}


def preset(name: str, title: str, cells: Callable[[Size], tuple[Cell, ...]]) -> Preset:
    """A preset on GLUE."""
    return Preset(name, title, cells, trials, SIZES)
