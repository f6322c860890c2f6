"""A round of FedIT in fedlease's engine beside Flower's simulation engine and a model built per client.

    FEDLEASE_DATA=DIR python benchmarks/round.py [--rows 96] [--repeats 2] [--flower kept | built | none]

16 clients of four GLUE tasks train MiniLM for a round: the same rows, batch, rate, epochs, first adapter and
frozen head everywhere. fedlease is as a run has it, in the number format that it chooses here and in float32.
The others run `stock.py`'s client in float32: (a) under Flower's FedAvg on one Ray worker, whose process
keeps the model (`kept`) or builds it for every message, as Flower's examples do (`built`); (b) in a loop that
builds the model for every client, as the published FedLEASE code does. One client trains at a time, with one
thread. All are done in turn; seconds are of the clock, with Flower's waits, and of the processor over all
processes. What a real run spends outside training and scoring is read from its record.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, median
from time import perf_counter
from typing import Any

import psutil
import torch
from rich.console import Console
from rich.table import Table

import fedlease
import stock
from fedlease.core.errors import FedLeaseError
from fedlease.core.files import write_json
from fedlease.core.progress import Progress
from fedlease.data.where import VARIABLE
from fedlease.deploy.processes import QUIET
from fedlease.engines.inprocess import InProcess
from fedlease.experiments.places import settle
from fedlease.experiments.prepare import Federation, prepare
from fedlease.experiments.spec import Spec, make_spec
from turns import ratio, write

RANK, ALPHA = 4, 16
TASKS = ("sst2", "qnli", "mrpc", "qqp")
ASKED = {"flower": 2.0, "loop": 4.0}
"""How many times as long as ours they are to take at least."""
OUTSIDE = 3.0
"""Percent of a run that may go to anything but training and scoring."""

Way = Callable[[], float]
"""Does the next round; returns the mean training loss of its clients."""


def spec_of(given: argparse.Namespace, precision: str, rounds: int) -> Spec:
    """The federation, as a run would be told of it."""
    client = {"count": given.clients // len(TASKS), "train_rows": given.rows, "test_rows": given.test_rows}
    return make_spec(
        {
            "name": "round",
            "rounds": rounds,
            "model": {"name": given.model, "max_length": 128, "precision": precision, "threads": 1},
            "method": {"name": "fedit", "rank": RANK, "alpha": ALPHA},
            "training": {"learning_rate": given.rate, "batch_size": given.batch, "epochs": 1},
            "clients": [{"name": task, "data": task, **client} for task in TASKS],
        }
    )


def federation(given: argparse.Namespace, precision: str, losses: dict[str, float]) -> Federation:
    """The federation with its base in memory; every client's mean loss goes to ``losses``."""

    def watch(step: Progress) -> None:
        if step.loss is not None:
            losses[step.client] = step.loss

    return prepare(spec := spec_of(given, precision, 1), settle(spec, Path.cwd()), watch)


def ours(of: Federation, losses: dict[str, float]) -> Way:
    """Rounds in the in-process engine."""
    engine = InProcess(of.algorithm, of.sites)
    state = of.algorithm.init(of.base.modules, 0)

    def train() -> float:
        nonlocal state
        state = of.algorithm.round(state, engine)
        engine.take_traffic()
        return fmean(losses.values())

    return train


def write_stock(folder: Path, of: Federation, given: argparse.Namespace) -> stock.Arrays:
    """Write model, head and rows for `stock.py`; return the first adapter as its arrays.

    The base has to be in float32 and without adapters.
    """
    model: Any = of.base.model
    setattr(model, of.base.head_name, of.base.heads[2])
    model.save_pretrained(folder)
    told = {"rank": RANK, "alpha": ALPHA, "rate": given.rate, "batch": given.batch, "epochs": 1}
    write_json(folder / "stock.json", told)
    for number, site in enumerate(of.sites.values()):
        rows = site.train_rows
        fields = {"input_ids": rows.input_ids, "token_type_ids": rows.token_type_ids, "labels": rows.labels}
        columns = {name: column for name, column in fields.items() if column is not None}
        table = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        (folder / f"{number}.json").write_text(json.dumps(table))
    first = of.algorithm.init(of.base.modules, 0).weights
    said = {"lora_A.weight": "A", "lora_B.weight": "B"}
    arrays = []
    for name in stock.names(stock.build(folder)):
        path, kind = name.removeprefix("base_model.model.").split(".lora_")
        arrays.append(first[f"{path}.{said[f'lora_{kind}']}"].numpy())
    return arrays


def built(folder: Path, first: stock.Arrays, clients: int) -> Way:
    """Rounds of the loop that builds a model for every client."""
    arrays = first

    def train() -> float:
        nonlocal arrays
        arrays, loss = stock.loop(folder, arrays, clients)
        return loss

    return train


def processor(seen: dict[int, float]) -> float:
    """Seconds of the processor that this process and all that it started have used, Ray's workers included.

    What a process had used when it was last ``seen`` counts on after its end.
    """
    here = psutil.Process()
    for process in (here, *here.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seen[process.pid] = times.user + times.system
    return sum(seen.values())


def outside(given: argparse.Namespace, folder: Path) -> float:
    """Percent of a real run of two rounds, from its record, that is neither training nor scoring."""
    run = fedlease.run(spec_of(given, "auto", 2), folder / "run")
    seconds = [entry["seconds"] for entry in run.record["rounds"]]
    return 100 * sum(each["other"] for each in seconds) / sum(each["total"] for each in seconds)


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Each way's seconds and losses of every round, in turn, and what a run spends outside."""
    losses: dict[str, float] = {}
    exact = federation(given, "float32", losses)
    first, ways = write_stock(folder, exact, given), {}
    chosen = federation(given, "auto", losses)
    if chosen.plan.precision != exact.plan.precision:
        ways[f"fedlease, {chosen.plan.precision}"] = ours(chosen, losses)
    ways["fedlease, float32"] = ours(exact, losses)
    simulation = None
    if given.flower != "none":
        from flower_round import Simulation

        simulation = Simulation(folder, first, given.clients, given.flower == "kept")
        ways[f"flower, model {given.flower}"] = simulation
    ways["loop, model built"] = built(folder, first, given.clients)
    clock: dict[str, list[float]] = {name: [] for name in ways}
    used: dict[str, list[float]] = {name: [] for name in ways}
    curves: dict[str, list[float]] = {name: [] for name in ways}
    seen: dict[int, float] = {}
    for _ in range(1 + given.repeats):
        for name, way in ways.items():
            began, before = perf_counter(), processor(seen)
            curves[name].append(way())
            clock[name].append(perf_counter() - began)
            used[name].append(processor(seen) - before)
    if simulation is not None:
        simulation.end()
    counted = {name: seconds[1:] for name, seconds in clock.items()}  # Flower starts its worker in the first
    counted_used = {name: seconds[1:] for name, seconds in used.items()}
    found = []
    for name in ways:
        row: dict[str, Any] = {"way": name, "losses": curves[name]}
        row |= {"seconds": median(counted[name]), "cpu_seconds": median(counted_used[name])}
        beside = [ours for ours in ways if ours.startswith("fedlease")]
        row["ratio"] = {ours: ratio(counted, name, ours) for ours in beside}
        row["cpu_ratio"] = {ours: ratio(counted_used, name, ours) for ours in beside}
        row["asked"] = ASKED.get(name.split(", ")[0])
        found.append(row)
    return {"rounds": found, "outside_percent": outside(given, folder)}


def main() -> None:
    """Measure, print, write."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--model", default="minilm")
    options.add_argument("--clients", type=int, default=16, help="a multiple of 4")
    options.add_argument("--rows", type=int, default=96, help="training rows of a client")
    options.add_argument("--test-rows", type=int, default=100, help="of the run whose record is read")
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--rate", type=float, default=1e-3)
    options.add_argument("--flower", choices=("kept", "built", "none"), default="kept")
    options.add_argument("--repeats", type=int, default=2)
    options.add_argument("--out", type=Path, default=Path("runs/benchmark-round.json"))
    given = options.parse_args()
    if VARIABLE not in os.environ:
        raise FedLeaseError(f"name the folder that holds glue/ in {VARIABLE}")
    screen = Console(width=120, highlight=False)
    if given.flower != "none":
        os.environ.update(QUIET | {"RAY_worker_niceness": "0"})  # else its workers wait where others compute
        try:
            import ray  # noqa: F401
        except ImportError:
            given.flower = "none"
            screen.print(
                "Flower's simulation engine is left out: it needs ray (pip install 'flwr[simulation]')"
            )
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(given, Path(folder))
    show(given, found, screen)
    write(given, **found)


def show(given: argparse.Namespace, found: dict[str, Any], screen: Console) -> None:
    """Print it as a table."""
    base, *_ = found["rounds"][0]["ratio"]
    table = Table("a round of", "s", "CPU s", "ratio", "CPU ratio", "asked", "CPU, to float32", "mean losses")
    table.title = (
        f"{given.model}, {given.clients} clients x {given.rows} rows, batch {given.batch}, beside {base}"
    )
    for row in found["rounds"]:
        table.add_row(
            row["way"],
            f"{row['seconds']:.1f}",
            f"{row['cpu_seconds']:.1f}",
            f"{row['ratio'][base]:.2f}",
            f"{row['cpu_ratio'][base]:.2f}",
            "" if row["asked"] is None else f"{row['asked']:.0f}",
            f"{row['cpu_ratio']['fedlease, float32']:.2f}",
            " ".join(f"{loss:.3f}" for loss in row["losses"]),
        )
    screen.print(table)
    screen.print(
        f"A run spends {found['outside_percent']:.2f} % outside training and scoring; {OUTSIDE:.0f} % asked"
    )


if __name__ == "__main__":
    main()
