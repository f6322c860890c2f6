"""The demonstration: FedLEASE beside FedIT, 16 clients with four tasks, on one machine in minutes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rich.console import Console

from fedlease.cli.live import Live
from fedlease.core.errors import FedLeaseError
from fedlease.data.catalog import demo_tasks
from fedlease.data.where import locate
from fedlease.experiments.results import Run
from fedlease.experiments.run import run
from fedlease.experiments.spec import Spec, make_spec
from fedlease.report.allocation_figure import allocation_figure
from fedlease.report.rounds_figure import rounds_figure
from fedlease.report.summary import accuracy_table, allocation_text, cost_table

METHODS = ({"name": "fedit", "rank": 8}, {"name": "fedlease", "rank": 4})
"""Ranks of comparable workload: the paper gives its baselines twice FedLEASE's."""


def run_demo(console: Console, data: Path | None, out: Path, seed: int) -> None:
    """Run both methods, print what they found, and draw it.

    Args:
        console: where to print.
        data: a folder that holds ``glue/``, or None; see `locate`.
        out: the folder for both runs and the pictures.
        seed: covers everything random.

    Raises:
        FedLeaseError: ``out`` is occupied, or the data cannot be used.
    """
    if out.exists() and any(out.iterdir()):
        raise FedLeaseError(f"{out} holds an earlier demo: remove it, or choose another --out")
    where = locate(data, os.environ)
    console.print(where.sentence, highlight=False, soft_wrap=True)
    live = Live(console)
    runs: list[Run] = []
    try:
        for method in METHODS:
            spec = demo_spec(method, demo_tasks(where.kind), where.root, seed)
            runs.append(run(spec, out / str(method["name"]), observer=live))
    finally:
        live.stop()
    records = [found.record for found in runs]
    allocation = allocation_text(records[-1])
    for piece in (allocation, accuracy_table(records), cost_table(records)):
        console.print()
        console.print(piece)
    rounds_figure(records, out / "rounds.png")
    allocation_figure(records[-1]["allocation"], out / "allocation.png")
    console.print(
        f"\nPictures: {out / 'rounds.png'} and {out / 'allocation.png'}. "
        f"More of a run: fedlease show {runs[-1].folder}",
        highlight=False,
        soft_wrap=True,
    )


def demo_spec(method: dict[str, Any], tasks: tuple[str, ...], root: Path | None, seed: int) -> Spec:
    """The demonstration as a spec, as `examples/glue.toml` spells it out but with fewer rounds."""
    return make_spec(
        {
            "name": "demo",
            "seed": seed,
            "rounds": ROUNDS,
            "model": {"name": "minilm", "max_length": 128},
            "method": method,
            "data": {"root": None if root is None else str(root.resolve())},
            "training": {"learning_rate": 2e-3, "batch_size": 32, "epochs": 2},
            "clients": [
                {"name": task, "data": task, "count": 4, "train_rows": ROWS, "test_rows": TEST_ROWS}
                for task in tasks
            ],
        }
    )


ROUNDS, ROWS, TEST_ROWS = 6, 200, 100
"""Sized to end within ten minutes on two cores without bfloat16 instructions."""
