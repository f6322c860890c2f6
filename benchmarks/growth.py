"""Time and memory of FedLEASE's runs against clients, experts, rows and rounds.

    python benchmarks/growth.py [--clients 8 ... 512] [--experts 1 ... 16] [--rows ...] [--rounds ...]

One number grows at a time; the others stay at 16 clients, 4 experts, 8 rows, 3 rounds, the first of them
alone. Rows are made-up texts, MiniLM is the base. Each run is a whole `fedlease.run` with its checkpoints and
record, in a process of its own with one thread. Counted are, from when base and rows are in memory to the
end, seconds of the processor and the most memory that the kernel saw in use (VmHWM, so on Linux alone).
`--figure STEM` draws STEM.png and STEM.svg; with `--from FILE` of what an earlier call wrote.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import tempfile
from pathlib import Path
from time import process_time
from typing import Any

import torch
from matplotlib import rc_context
from rich.console import Console
from rich.table import Table

from fedlease.core.files import read_json
from fedlease.experiments.run import run
from fedlease.report.canvas import GREY, MARKERS, PAGE, SMALL, bare, color_of, new_figure, save_both
from memory import memory
from turns import write

USUAL = {"clients": 16, "experts": 4, "rows": 8, "rounds": 3}
TASKS = ("tone", "answers", "paraphrase", "requests")
SCORED = 2
"""Test rows of a client: scoring is not what grows here."""


class Watch:
    """Takes note of time and memory from when a run begins to when it ends."""

    def begin(self, *_: Any) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the kernel's way to forget the peak so far
        self.began, self.held = process_time(), memory("VmRSS")

    def step(self, _: Any) -> None:
        pass

    def round(self, _: Any) -> None:
        pass

    def end(self, _: float) -> None:
        self.seconds, self.peak = process_time() - self.began, memory("VmHWM")


def measure(size: dict[str, int], model: str) -> dict[str, Any]:
    """Run one federation in this process; seconds of the processor, MiB."""
    torch.set_num_threads(1)
    client = {"count": size["clients"] // len(TASKS), "train_rows": size["rows"], "test_rows": SCORED}
    spec = {
        "name": "growth",
        "rounds": size["rounds"],
        "model": {"name": model, "max_length": 32, "threads": 1},
        "method": {"name": "fedlease", "warmup_rounds": 1, "experts": size["experts"]},
        "training": {"batch_size": 8, "epochs": 1},
        "clients": [{"name": task, "data": task, **client} for task in TASKS],
    }
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        record = run(spec, Path(folder) / "run", observer=watch).record
    parts = [entry["seconds"] for entry in record["rounds"]]
    total = sum(part["total"] for part in parts)
    return {
        "seconds": watch.seconds,
        "outside_percent": 100 * sum(part["other"] for part in parts) / total,
        "held": watch.held,
        "peak": watch.peak,
    }


def in_a_process_of_its_own(size: dict[str, int], model: str) -> dict[str, Any]:
    """Measure where no run before has left anything in memory."""
    fork = multiprocessing.get_context("fork")  # with the libraries loaded
    here, there = fork.Pipe(duplex=False)
    process = fork.Process(target=lambda: there.send(measure(size, model)))
    process.start()
    there.close()
    try:
        return here.recv()
    except EOFError:
        raise SystemExit(f"the run of {size} ended without a result") from None
    finally:
        process.join()


def growth(rows: list[dict[str, Any]], axis: str) -> tuple[float, float]:
    """Between the last two runs: the power of the number that time grows with, and MiB one more takes."""
    one, other = rows[-2:]
    power = math.log(other["seconds"] / one["seconds"]) / math.log(other[axis] / one[axis])
    return power, (other["peak"] - one["peak"]) / (other[axis] - one[axis])


def draw(found: dict[str, list[dict[str, Any]]], stem: Path) -> None:
    """Time above, memory below, a column for each number that grows."""
    with rc_context(SMALL):
        figure = new_figure(PAGE, 3.8)
        axes = figure.subplots(2, len(found), squeeze=False, sharex="col", sharey="row")
        most = max(row["peak"] for rows in found.values() for row in rows)
        for column, (axis, rows) in enumerate(found.items()):
            x = [row[axis] for row in rows]
            style: dict[str, Any] = {"color": color_of(column), "marker": MARKERS[column], "markersize": 4}
            above, below = axes[:, column]
            above.loglog(x, [row["seconds"] for row in rows], **style)
            last = rows[-1]
            above.loglog(
                x, [last["seconds"] * n / last[axis] for n in x], color=GREY, linestyle="--", linewidth=1
            )
            below.plot(x, [row["peak"] for row in rows], **style)
            below.plot(x, [row["held"] for row in rows], color=GREY, linestyle=":", linewidth=1)
            below.set_ylim(0, 1.1 * most)
            below.set_xticks(x, [str(n) if n in (x[0], x[-1], x[len(x) // 2]) else "" for n in x])
            below.minorticks_off()
            below.set_xlabel(axis)
            for panel in (above, below):
                bare(panel)
                panel.grid(alpha=0.3)
        axes[0, 0].set_ylabel("processor (s)")
        axes[1, 0].set_ylabel("peak memory (MiB)")
        axes[0, 0].plot([], [], color=GREY, linestyle="--", label="proportional")
        axes[0, 0].plot([], [], color=GREY, linestyle=":", label="memory before the first round")
        figure.legend(
            *axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False
        )
        save_both(figure, stem)


def main() -> None:
    """Measure, print, draw, write."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--clients", type=int, nargs="*", default=[8, 16, 32, 64, 128, 256, 512])
    options.add_argument("--experts", type=int, nargs="*", default=[1, 2, 4, 8, 16])
    options.add_argument("--rows", type=int, nargs="*", default=[8, 16, 32, 64, 128])
    options.add_argument("--rounds", type=int, nargs="*", default=[2, 4, 8, 16, 32])
    options.add_argument("--model", default="minilm")
    options.add_argument("--from", type=Path, dest="known", help="measure nothing: show what is in this file")
    options.add_argument("--figure", type=Path, help="draw to this path, with .png and .svg added")
    options.add_argument("--out", type=Path, default=Path("runs/benchmark-growth.json"))
    given = options.parse_args()
    screen, found = Console(width=120, highlight=False), {}
    if given.known:
        found = read_json(given.known)["growth"]
    else:
        for axis in USUAL:
            for number in getattr(given, axis):
                size = USUAL | {axis: number}
                found.setdefault(axis, []).append(size | in_a_process_of_its_own(size, given.model))
                write(given, usual=USUAL, growth=found)  # what is done is kept if the rest is stopped
    for axis, rows in found.items():
        table = Table(axis, "CPU s", f"CPU s for each of {axis}", "peak MiB", "before", "outside")
        for row in rows:
            table.add_row(
                str(row[axis]),
                f"{row['seconds']:.1f}",
                f"{row['seconds'] / row[axis]:.3f}",
                f"{row['peak']:.0f}",
                f"{row['held']:.0f}",
                f"{row['outside_percent']:.1f} %",
            )
        screen.print(table)
        if len(rows) > 1:
            power, more = growth(rows, axis)
            screen.print(f"between the last two: time by the power {power:.2f}, {more:.2f} MiB for each more")
    if given.figure:
        draw(found, given.figure)


if __name__ == "__main__":
    main()
