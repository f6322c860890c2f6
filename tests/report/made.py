"""Made-up runs that look like real ones: 16 clients of four tasks, or as many as a test asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedlease.allocation import cluster
from fedlease.report.records import Entry

TASKS = {"sst2": 4, "qnli": 4, "mrpc": 4, "qqp": 4}
LEVEL = {"sst2": 0.93, "qnli": 0.86, "mrpc": 0.83, "qqp": 0.8}
LABELS = {
    "sst2": ["negative", "positive"],
    "qnli": ["entailment", "not_entailment"],
    "mrpc": ["not_equivalent", "equivalent"],
}
FEDLEASE = {"name": "fedlease", "rank": 4, "top_k": None, "router": "cluster"}


def members(tasks: Mapping[str, int]) -> dict[str, str]:
    """Client -> group; a group of one has no number."""
    return {f"{name}-{i}" if count > 1 else name: name for name, count in tasks.items() for i in range(count)}


def run(
    row: str = "fedit",
    section: str = "",
    *,
    tasks: Mapping[str, int] = TASKS,
    method: Mapping[str, Any] | None = None,
    seed: int = 0,
    shift: float = 0.0,
    scores: Mapping[str, float] | None = None,
    epochs: int = 2,
    folder: Path | None = None,
    **facts: Any,
) -> Entry:
    """A run with its place; scores are drawn around the task's level plus ``shift`` unless they are given."""
    group_of = members(tasks)
    random = np.random.default_rng([seed, *row.encode(), *section.encode()])
    drawn = {
        client: round(float(LEVEL.get(group, 0.75) + shift + 0.015 * random.standard_normal()), 4)
        for client, group in group_of.items()
    }
    record = {
        "status": "complete",
        "seed": seed,
        "metric": "accuracy",
        "spec": {
            "name": "made",
            "rounds": 1,
            "method": dict(method or {"name": row}),
            "training": {"epochs": epochs},
            "clients": [{"name": name, "count": count} for name, count in tasks.items()],
        },
        "clients": {
            client: {"group": group, "labels": LABELS.get(group, ["no", "yes"])}
            for client, group in sorted(group_of.items())
        },
        "rounds": [
            {
                "round": 1,
                "metrics": {client: {"accuracy": value} for client, value in (scores or drawn).items()},
            }
        ],
        **facts,
    }
    where = folder or Path(f"runs/{row}-{section}-{seed}".replace(" ", "_"))
    return Entry(row, section, json.loads(json.dumps(record)), where)


def allocation(tasks: Mapping[str, int] = TASKS, seed: int = 0) -> dict[str, Any]:
    """The allocation of clients whose updates depend on their task."""
    return cluster(adapters(tasks, seed), max_experts=8).to_json()


def adapters(tasks: Mapping[str, int] = TASKS, seed: int = 0, modules: int = 3) -> dict[str, dict[str, Any]]:
    """Plain LoRA weights of every client, of rank 2, from a shared first A and a B of the task."""
    import torch

    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random)

    names = [
        f"encoder.layer.{i}.attention.self.{kind}" for i in range(modules) for kind in ("query", "value")
    ]
    start, common = {n: draw(2, 12) for n in names}, {n: draw(10, 2) for n in names}
    tasks_b = {(task, n): draw(10, 2) for task in tasks for n in names}
    weights: dict[str, dict[str, Any]] = {}
    for client, group in sorted(members(tasks).items()):
        weights[client] = {}
        for n in names:
            weights[client][f"{n}.A"] = start[n] + 0.2 * draw(2, 12)
            weights[client][f"{n}.B"] = common[n] + 0.8 * tasks_b[group, n] + 0.5 * draw(10, 2)
    return weights


def routing(
    tasks: Mapping[str, int] = TASKS, layers: int = 6, experts: int = 4, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Deeper layers and later tasks use more experts."""
    random, found = np.random.default_rng(seed), {}
    for client, group in sorted(members(tasks).items()):
        place, modules = list(tasks).index(group), {}
        for layer in range(layers):
            for kind in ("query", "value"):
                mean = 1 + (experts - 1) * (0.5 * layer / layers + 0.4 * place / len(tasks))
                used = float(np.clip(mean + 0.2 * random.standard_normal(), 1, experts))
                modules[f"bert.encoder.layer.{layer}.attention.self.{kind}"] = {
                    "experts": round(used, 6),
                    "weights": [1 / experts] * experts,
                }
        found[client] = modules
    return found


def with_labels(entry: Entry, counts: Mapping[str, Sequence[int]]) -> Entry:
    """The run with the training rows of each label that its clients hold."""
    clients = {
        client: {**facts, "label_counts": {"train": list(counts[client]), "test": [1, 1]}}
        for client, facts in entry.record["clients"].items()
    }
    return entry._replace(record={**entry.record, "clients": clients})
