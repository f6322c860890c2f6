"""The demonstration: FedLEASE beside FedIT, 16 clients with four tasks, on one machine in minutes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rich.console import Console

from fedlease.cli.live import Live
from fedlease.core.errors import FedLeaseError
from fedlease.data.catalog import demo_tasks, find
from fedlease.data.sources import load
from fedlease.data.where import Location, locate
from fedlease.experiments.places import measure_first
from fedlease.experiments.results import Run, same_spec
from fedlease.experiments.run import resume, run
from fedlease.experiments.spec import Spec, make_spec
from fedlease.report.allocation_figure import allocation_figure
from fedlease.report.rounds_figure import rounds_figure
from fedlease.report.summary import accuracy_table, allocation_text, cost_table

METHODS = ({"name": "fedit", "rank": 8}, {"name": "fedlease", "rank": 4, "warmup_rounds": 2})
"""Ranks of comparable workload: the paper gives its baselines twice FedLEASE's."""


def run_demo(console: Console, data: Path | None, out: Path, seed: int, *, quick: bool = False) -> None:
    """Run both methods, print what they found, and draw it; what an earlier call did is not done again.

    Args:
        console: where to print.
        data: a folder that holds ``glue/``, or None; see `locate`.
        out: the folder for both runs and the pictures.
        seed: covers everything random.
        quick: so few rows and rounds that it shows that all works, and not what it is good for.

    Raises:
        FedLeaseError: ``out`` holds something else, or the data cannot be used.
    """
    _check_out(out)
    where = usable(locate(data, os.environ))
    console.print(where.sentence, highlight=False, soft_wrap=True)
    specs = {
        out / str(method["name"]): demo_spec(method, demo_tasks(where.kind), where.root, seed)
        for method in METHODS
    }
    if quick:
        specs = {folder: _made_quick(spec) for folder, spec in specs.items()}
    begun = [folder for folder, spec in specs.items() if _begun(folder, spec)]  # before any of them runs
    live = Live(console)
    runs: list[Run] = []
    if len(begun) < len(specs):
        measure_first(next(iter(specs.values())), Path.cwd(), live.note)  # both methods are to compute alike
    try:
        for folder, spec in specs.items():
            if folder in begun:
                said = f"{folder.name}: going on with the run in {folder}"
                console.print(said, highlight=False, soft_wrap=True)
                runs.append(resume(folder, observer=live))
            else:
                runs.append(run(spec, folder, observer=live, measure=False))
    finally:
        live.stop()
    _print(console, runs, out)


def usable(where: Location) -> Location:
    """Where the data is, or generated tasks where the hub answers but the data sets do not load from it."""
    if where.kind != "hub":
        return where
    try:
        for task in demo_tasks(where.kind):
            load(find(task), where.root)
    except FedLeaseError as error:
        sentence = f"Data: small generated text tasks, because loading from the hub failed: {error}."
        return Location("generated", None, sentence)
    return where


def _check_out(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise FedLeaseError(f"{out} is a file: --out names the folder for the runs and the pictures")
    runs = [out / str(method["name"]) / "spec.json" for method in METHODS]
    if out.is_dir() and any(out.iterdir()) and not any(path.is_file() for path in runs):
        raise FedLeaseError(f"{out} holds something that is not a demo: choose another --out")


def _begun(folder: Path, spec: Spec) -> bool:
    """Whether the folder holds a run to go on with; one of another spec is refused."""
    if not (folder / "spec.json").is_file():
        return False
    if not same_spec(folder, spec):
        raise FedLeaseError(
            f"{folder} holds a demo with other data, another seed or other settings: "
            f"remove {folder.parent}, or choose another --out"
        )
    return True


def _print(console: Console, runs: list[Run], out: Path) -> None:
    """Print what the runs found, and draw it."""
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
    """The demonstration as a spec, a smaller `examples/glue.toml`."""
    return make_spec(
        {
            "name": "demo",
            "seed": seed,
            "rounds": ROUNDS,
            "model": {"name": "minilm", "max_length": 128},
            "method": method,
            "data": {"root": None if root is None else str(root.resolve())},
            "training": {"learning_rate": 2e-3, "batch_size": 8, "epochs": 2},
            "clients": [
                {"name": task, "data": task, "count": 4, "train_rows": ROWS, "test_rows": TEST_ROWS}
                for task in tasks
            ],
        }
    )


def _made_quick(spec: Spec) -> Spec:
    """The same clients and methods, in a fraction of the time."""
    rounds, rows, test_rows = QUICK
    few = {"train_rows": rows, "test_rows": test_rows}
    clients = tuple(client.model_copy(update=few) for client in spec.clients)
    return spec.model_copy(update={"rounds": rounds, "clients": clients})


ROUNDS, ROWS, TEST_ROWS = 5, 150, 100
"""Sized to end within ten minutes on two cores that multiply bfloat16, on the real rows too."""

QUICK = (3, 8, 4)
"""Rounds, training and test rows of a demonstration that only tries the installation."""
