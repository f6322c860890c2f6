"""Made-up records for the page, with all that a run's record has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from made import FEDLEASE, TASKS, allocation, members

from fedlease.report.records import Entry

METHOD = {**FEDLEASE, "warmup_rounds": 2}


def record(
    tasks: Mapping[str, int] = TASKS,
    rounds: int = 3,
    *,
    method: Mapping[str, Any] = METHOD,
    layers: int = 3,
    seed: int = 0,
    **facts: Any,
) -> dict[str, Any]:
    """A complete record with numbers drawn by the seed; of FedLEASE, with allocation and routing."""
    random = np.random.default_rng(seed)
    group_of = dict(sorted(members(tasks).items()))
    made: dict[str, Any] = {
        "format": 1,
        "status": "complete",
        "seed": seed,
        "metric": "accuracy",
        "versions": {"fedlease": "0", "python": "3"},
        "commit": "0123456789abcdef",
        "machine": {"system": "Linux", "processor": "of test"},
        "spec": {
            "name": "made",
            "rounds": rounds,
            "score_every": 1,
            "model": {"name": "tiny"},
            "method": dict(method),
            "training": {"epochs": 2, "learning_rate": 0.001},
            "clients": [{"name": name, "count": count} for name, count in tasks.items()],
        },
        "plan": {"device": "cpu", "precision": "float32", "attention": "eager", "threads": 1, "why": "made"},
        "model": {"path": "/models/tiny", "fingerprint": "0"},
        "clients": {
            client: {
                "group": group,
                "train_rows": 250,
                "test_rows": 200,
                "rows_hash": client,
                "shared_test_rows": False,
                "cut_rows": {"train": 0, "test": 0},
            }
            for client, group in group_of.items()
        },
        "parameters": {"base": 1_000_000, "trained": {"A": 600, "B": 400}},
        "rounds": [_round(number, list(group_of), random) for number in range(1, rounds + 1)],
        "sessions": [{"from_round": 1, "setup_seconds": 1.5}],
    }
    if method["name"].startswith("fedlease"):
        made["allocation"] = allocation(tasks)
        made["routing"] = _routing(list(group_of), layers, made["allocation"]["num_experts"], random)
    return dict(json.loads(json.dumps({**made, **facts})))


def entry(row: str = "fedlease", folder: Path = Path("runs/made"), section: str = "", **of: Any) -> Entry:
    """A record with its place."""
    method = METHOD if row.startswith("fedlease") else {"name": row, "rank": 4}
    return Entry(row, section, record(**{"method": method, **of}), folder)


def large() -> Entry:
    """64 clients of eight tasks, 50 scored rounds, a mixture in 24 layers."""
    return entry(tasks={f"task{i}": 8 for i in range(8)}, rounds=50, layers=24)


def _round(number: int, clients: list[str], random: np.random.Generator) -> dict[str, Any]:
    scores = 0.5 + 0.4 * (1 - np.exp(-number / 8)) + 0.03 * random.standard_normal(len(clients))
    return {
        "round": number,
        "metrics": {
            c: {"accuracy": round(float(s), 4)} for c, s in zip(clients, scores.clip(0, 1), strict=True)
        },
        "loss": {client: round(float(random.uniform(0.2, 0.7)), 6) for client in clients},
        "rows": {"train": 500 * len(clients), "score": 200 * len(clients)},
        "bytes": {"up": {"A": 1000, "B": 2000}, "down": {"A": 4000, "B": 8000}, "score": {"A": 500}},
        "seconds": {"total": 10.0, "train": 7.0, "score": 2.5, "other": 0.5, "reused": 0.0},
    }


def _routing(clients: list[str], layers: int, experts: int, random: np.random.Generator) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for client in clients:
        found[client] = {}
        for layer in range(layers):
            for kind in ("query", "value"):
                weights = random.dirichlet(np.ones(experts))
                found[client][f"bert.encoder.layer.{layer}.attention.self.{kind}"] = {
                    "experts": round(float(random.uniform(1, experts)), 6),
                    "weights": [round(float(weight), 6) for weight in weights],
                    "entropy": round(float(random.uniform(0, np.log2(experts))) if experts > 1 else 0.0, 6),
                }
    return found
