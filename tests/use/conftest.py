"""Small finished runs that tests open: on a tiny BERT and on a tiny Llama."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fedlease
from fedlease.experiments.results import Run

MIXTURE = {"name": "fedlease", "rank": 2, "experts": 2, "warmup_rounds": 1, "router_std": 0.5}
"""A router that starts so large chooses differently from token to token, in a tiny model too."""


@pytest.fixture(scope="session")
def classes(tiny: Path) -> dict[str, Any]:
    """A spec of four clients with two tasks; a high learning rate makes experts and routers matter."""
    clients = [
        {"name": task, "data": task, "count": 2, "train_rows": 24, "test_rows": 20}
        for task in ("tone", "answers")
    ]
    return {
        "name": "small",
        "rounds": 3,
        "model": {"name": str(tiny), "threads": 1, "precision": "float32", "max_length": 32},
        "method": MIXTURE,
        "training": {"batch_size": 8, "epochs": 2, "learning_rate": 0.03},
        "clients": clients,
    }


@pytest.fixture(scope="session")
def run(classes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of FedLEASE with two experts; it is not to be changed."""
    return fedlease.run(classes, tmp_path_factory.mktemp("run") / "mixture")


@pytest.fixture(scope="session")
def plain(classes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of FedIT: one adapter for all."""
    spec = {**classes, "method": {"name": "fedit", "rank": 3}, "rounds": 2}
    return fedlease.run(spec, tmp_path_factory.mktemp("run") / "plain")


@pytest.fixture(scope="session")
def writer(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of generation: clients with prompt columns and clients with chats."""
    folder = tmp_path_factory.mktemp("writer")
    asked = [{"ask": f"say {n:03d}", "say": f"{n:03d}"} for n in range(60)]
    chats = [
        {"talk": [{"role": "user", "content": f"is {n} even?"}, {"role": "assistant", "content": str(n % 2)}]}
        for n in range(60)
    ]
    for name, rows in (("asked", asked), ("chats", chats)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = {"count": 2, "train_rows": 16, "test_rows": 4}
    files = {name: str(folder / f"{name}.jsonl") for name in ("asked", "chats")}
    spec = {
        "name": "small",
        "rounds": 2,
        "model": {"name": str(tiny_llama), "threads": 1, "precision": "float32", "max_length": 64},
        "method": MIXTURE,
        "training": {"batch_size": 8, "epochs": 1, "learning_rate": 0.02},
        "generation": {"template": "Q: {prompt}\nA: ", "max_new_tokens": 6},
        "clients": [
            {"name": "asked", "train": files["asked"], "prompt": ["ask"], "answer": "say", **common},
            {"name": "chats", "train": files["chats"], "messages": "talk", **common},
        ],
    }
    return fedlease.run(spec, folder / "run")
