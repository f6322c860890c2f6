"""A sweep small enough to run: three methods on generated texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from fedlease.experiments.pace import KINDS, Pace, like
from fedlease.experiments.presets.kinds import Cell, Preset, Size
from fedlease.experiments.spec import Spec
from fedlease.experiments.sweep import Sweep

TASKS = ("tone", "answers")


def tiny_preset(model: str) -> Preset:
    """Three methods on generated texts; two of them share the initial phase."""

    def clients(count: int) -> list[dict[str, Any]]:
        return [{"name": t, "data": t, "count": count, "train_rows": 12, "test_rows": 6} for t in TASKS]

    base = {"model": {"name": model, "threads": 1, "precision": "float32"}, "rounds": 3}
    trial = {"rounds": 2, "seed": 7, "data": {"held_out": True}}
    size = Size("small", base, 12, 6, 2, (0, 1), (1e-3, 1e-2), trial, 2, 6)
    own = {"name": "fedlease", "rank": 2, "warmup_rounds": 1}
    rows = {"FedIT": {"name": "fedit", "rank": 4}, "FedLEASE": own, "top-1": {**own, "top_k": 1}}
    return Preset(
        "table9",
        "A tiny table",
        lambda size: tuple(
            Cell(row, {**base, "clients": clients(2), "method": m}, m["name"]) for row, m in rows.items()
        ),
        lambda size: {
            m["name"]: {**base, **trial, "clients": clients(2), "method": m} for m in rows.values()
        },
        {"small": size},
    )


class Silent:
    """A watcher that keeps what it was told."""

    def __init__(self) -> None:
        self.rates: dict[str, Any] = {}
        self.ended: list[str] = []
        self.measured: list[tuple[int, int]] = []

    def pacing(self, done: int, whole: int) -> None:
        self.measured.append((done, whole))

    def begin(self, sweep: Sweep) -> None:
        self.pace = sweep.pace

    def event(self, event: Any) -> None:
        if event.code is not None:
            self.ended.append(event.name)

    def chosen(self, key: str, tuned: Any) -> None:
        self.rates[key] = tuned

    def left(self, seconds: float) -> None:
        self.seconds = seconds


def told(specs: Sequence[Spec], *_: Any) -> Pace:
    """A pace that nobody measured."""
    return Pace(
        {(like(spec, entry), kind): 0.1 for spec in specs for entry in spec.clients for kind in KINDS}
    )


def sweep_without_pace(model: str, out: Path) -> None:
    """Run the sweep in a process that is killed: it writes nothing while it measures its pace."""
    with patch("fedlease.experiments.sweep.measure", told):
        Sweep([tiny_preset(model)], "small", out).run(Silent())


def stripped(folder: Path) -> str:
    """A record without its times."""
    record = json.loads((folder / "record.json").read_text())
    for entry in record["rounds"]:
        entry.pop("seconds")
    record.pop("sessions")
    return json.dumps(record)
