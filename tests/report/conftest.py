"""A record of two groups of two clients, small enough to compute its tables by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from cells import FEDIT, LEASE

from fedlease.report.records import Entry

GROUPS = {"red": ("red-0", "red-1"), "blue": ("blue-0", "blue-1")}
CLIENTS = [client for members in GROUPS.values() for client in members]


@pytest.fixture
def record() -> Callable[..., dict[str, Any]]:
    """Make a record from the scores of `CLIENTS` by round.

    None for a round that was not scored, and for a client that did not answer.
    """

    def make(
        *rounds: Sequence[float | None] | None,
        method: str = "fedit",
        metric: str = "accuracy",
        **changes: Any,
    ) -> dict[str, Any]:
        clients = {
            client: {"group": group, "train_rows": 20, "test_rows": 10, "shared_test_rows": False}
            for group, members in GROUPS.items()
            for client in members
        }
        made = {
            "spec": {
                "name": "hand",
                "rounds": 9,
                "method": {"name": method},
                "clients": [{"name": name} for name in GROUPS],
            },
            "status": "running",
            "seed": 3,
            "plan": dict.fromkeys(("precision", "attention", "threads", "device", "why"), "so"),
            "model": {"path": "a-model"},
            "clients": clients,
            "rounds": [_entry(number, metric, scores) for number, scores in enumerate(rounds, start=1)],
        }
        return {**made, **changes}

    return make


@pytest.fixture
def entry(record: Any) -> Callable[..., Entry]:
    """Make a complete run of one scored round as an entry of a table."""

    def make(row: str, seed: int, scores: Sequence[float | None], section: str = "", **changes: Any) -> Entry:
        made = record(scores, **{"method": "fedit", "status": "complete", "seed": seed, **changes})
        for client, facts in made["clients"].items():
            facts.setdefault("rows_hash", f"{client} {seed}")
        return Entry(row, section, made, Path(f"runs/{row}-{seed}"))

    return make


@pytest.fixture
def two(entry: Any) -> list[Entry]:
    """FedIT and FedLEASE with three seeds."""
    lease = {"method": "fedlease", "allocation": {"num_experts": 2}}
    runs = [entry("FedIT", seed, scores) for seed, scores in FEDIT.items()]
    return runs + [entry("FedLEASE", seed, scores, **lease) for seed, scores in LEASE.items()]


def _entry(number: int, metric: str, scores: Sequence[float | None] | None) -> dict[str, Any]:
    answers = zip(CLIENTS, scores or [None] * len(CLIENTS), strict=True)
    return {
        "round": number,
        "metrics": {client: {metric: value} for client, value in answers if value is not None},
        "loss": {"red-0": 0.5, "red-1": 0.25},
        "rows": {"train": 300, "score": 40},
        "bytes": {"up": {"A": 400_000, "B": 100_000}, "down": {"B": 499_850}},
        "seconds": {"total": 10.0, "train": 7.5, "score": 2.0, "other": 0.5},
    }
