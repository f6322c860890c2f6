"""Table 3: generation on four FLAN tasks, 8 clients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fedlease.experiments.presets.glue import RATE_OF, every_method, methods
from fedlease.experiments.presets.kinds import Cell, Preset, Size, Values

TASKS = {
    "text_editing": "fix_punct",
    "struct_to_text": "web_nlg_en",
    "sentiment": "sentiment140",
    "commonsense": "hellaswag",
}
"""The paper's names, and the tasks of FLAN that stand for them here: the paper does not say which it took."""

LONGEST = "commonsense"
"""Its rows have 245 tokens where those of the others have 75 to 113."""

EIGHT_BITS: Values = {"quantization": "bnb-8bit", "gradient_checkpointing": True}
"""Of the paper's model; checkpointing, which changes no number, so that one GPU holds it."""

SMALL = Size(
    name="small",
    base={
        "model": {"name": "smollm2", "max_length": 416, "threads": 1},
        "rounds": 6,
        "score_every": 6,
        "training": {"batch_size": 8, "epochs": 1, "score_batch_size": 40},
        "generation": {"max_new_tokens": 80},
    },
    train_rows=44,
    test_rows=40,
    clients=2,
    seeds=(0, 1),
    rates=(3e-4, 1e-3, 3e-3),
    trial={"score_every": 6, "seed": 0, "data": {"held_out": True}},
    trial_clients=2,
    trial_rows=30,
)
"""For two cores: SmolLM2, six rounds. No row is cut, and 80 tokens are enough for 97 % of the answers.

Of the longest rows each client has half as many, and none are in trials, which train on 30 rows a client.
"""

PAPER = Size(
    name="paper",
    base={
        "model": {"name": "meta-llama/Llama-2-7b-hf", "max_length": 512, **EIGHT_BITS},
        "rounds": 10,
        "score_every": 5,
        "training": {"batch_size": 8, "epochs": 2},
        "generation": {"max_new_tokens": 128},
    },
    train_rows=600,
    test_rows=200,
    clients=2,
    seeds=(0, 1, 2, 3, 4),
    rates=(1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    trial={"score_every": 10, "seed": 0, "data": {"held_out": True}},
    trial_clients=2,
    trial_rows=200,
)
"""Appendix A. The rank is 4, although it says 8: only so do 0.0584 % of the parameters come out."""


def clients(size: Size) -> list[dict[str, Any]]:
    """The ``[[clients]]`` entries: so many of every task as the size says."""
    return [
        {
            "name": name,
            "data": task,
            "count": size.clients,
            "train_rows": size.train_rows // (2 if size.name == "small" and name == LONGEST else 1),
            "test_rows": size.test_rows,
        }
        for name, task in TASKS.items()
    ]


def cells(size: Size) -> tuple[Cell, ...]:
    """Every method of Table 1 once."""
    return tuple(replace(cell, rate=_key(cell.rate)) for cell in every_method(size, clients=clients(size)))


def _key(method: str) -> str:
    """Of a method's trials: those on GLUE, which a sweep may have beside these, are others."""
    return f"{method} on FLAN"


def trials(size: Size) -> dict[str, Values]:
    """The specs on which learning rates are chosen: the same setting, scored on held-out training rows."""
    tried = clients(size)
    if size.name == "small":
        short = {"train_rows": 30, "test_rows": size.trial_rows}
        tried = [{**entry, **short} for entry in tried if entry["name"] != LONGEST]
    return {
        _key(str(method["name"])): {**size.base, **size.trial, "clients": tried, "method": method}
        for method in methods().values()
        if method["name"] not in RATE_OF
    }


PRESET = Preset("table3", "Performance on FLAN", cells, trials, {"small": SMALL, "paper": PAPER})
