"""Allocation of experts to 16, 1,000 and 10,000 clients: time, memory, what sketches cost, one newcomer more.

    python benchmarks/allocation_scale.py [--clients 16 1000 10000] [--tasks 8] [--threads 2] [--spread 3]

Adapters are of RoBERTa-large's size (query and value of 24 layers, l = d = 1024, rank 4), made up each time
one is read: a part that all share, one of the task, and noise of the client's own, ``spread`` times as large.
Clients' names are in no order of tasks. Each number of clients has a process of its own; its peak is of that
whole process, Python and its libraries included (VmHWM, so on Linux alone). Up to 1,000 clients are also
compared by sketches, so that their error is seen on every pair. Writes a JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

LAYERS, WIDTH, RANK = 24, 1024, 4
MODULES = [f"layer.{layer}.{which}" for layer in range(LAYERS) for which in ("query", "value")]
LATE = 20


class Planted(Mapping):  # type: ignore[type-arg]
    """Clients' adapters, each made when it is asked for and then forgotten."""

    def __init__(self, clients: int, tasks: int, spread: float, modules: int = len(MODULES)) -> None:
        from fedlease.core.seeds import generator

        self.tasks, self.spread, self.modules, self.reads = tasks, spread, MODULES[:modules], 0
        self.names = [f"client-{number:05d}" for number in range(clients)]
        self.random = generator
        shape = (modules, RANK, WIDTH)
        self.first = self._draw(shape, "A") / WIDTH**0.5
        common = self._draw(shape, "common") / 2  # clusters share a fifth of what their own clients do
        self.means = [common + self._draw(shape, "task", task) for task in range(tasks)]

    def _draw(self, shape: tuple[int, ...], *purpose: str | int) -> Any:
        import torch

        return torch.randn(shape, generator=self.random(0, *purpose))

    def task(self, client: str) -> int:
        return int(client[-5:]) * 5 // 3 % self.tasks

    def made(self, client: str, task: int) -> dict[str, Any]:
        """The adapter of a client of a task, float32 A [r, d] and B [l, r]."""
        noise = self._draw((2, len(self.modules), RANK, WIDTH), "client", client)
        b = self.means[task] + self.spread * noise[0]
        a = self.first + 0.02 / WIDTH**0.5 * noise[1]
        pairs = zip(self.modules, a, b, strict=True)
        return {k: t for name, A, B in pairs for k, t in ((f"{name}.A", A), (f"{name}.B", B.T))}

    def __getitem__(self, client: str) -> dict[str, Any]:
        self.reads += 1
        return self.made(client, self.task(client))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class Clock:
    """Seconds by the clock on the wall and of all cores together, since it was made."""

    def __init__(self) -> None:
        self.wall, self.cores = perf_counter(), process_time()

    def read(self) -> dict[str, float]:
        return {"seconds": perf_counter() - self.wall, "core_seconds": process_time() - self.cores}


def measure(clients: int, tasks: int, spread: float) -> dict[str, Any]:
    """Allocate, keep the centres, take newcomers in, and tell of it."""
    import numpy as np
    from sklearn.metrics import adjusted_rand_score

    from fedlease.allocation import SIZE, centres, cluster, join

    held = Planted(clients, tasks, spread)
    clock = Clock()
    for client in held.names[:100]:
        held.made(client, 0)
    making = clock.read()["core_seconds"] / min(clients, 100)
    clock = Clock()
    found = cluster(held)
    told: dict[str, Any] = {"clients": clients, **clock.read(), "making_core_seconds": making * held.reads}
    told |= {"reads": held.reads / clients, "peak_mib": memory("VmHWM"), "experts": found.num_experts}
    truth = [held.task(client) for client in found.clients]
    told["rand"] = adjusted_rand_score(truth, found.labels)
    told["silhouettes"] = found.scores
    if found.sketch:
        told |= {"sketch": found.sketch.size, "error": found.sketch.error, "pairs": found.sketch.checked}
    elif clients > tasks:
        clock = Clock()
        sketched = cluster(held, sketch=SIZE)
        told |= {"sketched": clock.read(), "sketch": SIZE}
        pairs = np.triu_indices(clients, 1)
        error = (sketched.distances - found.distances)[pairs]  # type: ignore[operator]
        told |= {"error": float(np.sqrt((error**2).mean())), "largest_error": float(np.abs(error).max())}
        told["sketched_rand"] = adjusted_rand_score(truth, sketched.labels)
    clock = Clock()
    known = centres(held, found)
    told["centres"] = clock.read()
    late = {f"late-{number:02d}": number % tasks for number in range(LATE)}
    made = {client: held.made(client, task) for client, task in late.items()}
    clock = Clock()
    after = join(found, known, made)
    told["newcomer"] = {key: value / LATE for key, value in clock.read().items()}
    own = [after.label(client) for client in late]
    told["newcomers_rand"] = adjusted_rand_score(list(late.values()), own)
    told["peak_with_newcomers_mib"] = memory("VmHWM")
    return told


def memory(which: str) -> float:
    """MiB that the kernel holds this process to have had at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{which}:")) / 1024


def in_a_process_of_its_own(clients: int, given: argparse.Namespace) -> dict[str, Any]:
    """Measure without what this process has in memory already."""
    command = [sys.executable, __file__, f"--only={clients}", f"--tasks={given.tasks}"]
    command.append(f"--spread={given.spread}")
    threads = str(given.threads)
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
    )
    if done.returncode:
        raise SystemExit(f"{clients} clients: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure, print, write."""
    from rich.console import Console
    from rich.table import Table

    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--clients", type=int, nargs="+", default=[16, 1000, 10000])
    options.add_argument("--tasks", type=int, default=8)
    options.add_argument("--spread", type=float, default=3.0, help="a client's noise over its task's part")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--only", type=int, help="measure in this process and print JSON")
    options.add_argument("--out", type=Path, default=Path("runs/benchmark-allocation-scale.json"))
    given = options.parse_args()
    if given.only:
        print(json.dumps(measure(given.only, given.tasks, given.spread)))
        return
    found = [in_a_process_of_its_own(clients, given) for clients in given.clients]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    options_given = {key: getattr(given, key) for key in ("tasks", "spread", "threads")}
    given.out.write_text(json.dumps({"options": options_given, "sizes": found}, indent=1) + "\n")
    table = Table("", *(f"{one['clients']:,} clients" for one in found))
    for name, show in ROWS.items():
        table.add_row(name, *(show(one) for one in found))
    Console(width=110).print(table)


def _number(key: str, digits: int, inside: str | None = None, scale: float = 1) -> Any:
    def show(one: dict[str, Any]) -> str:
        value = (one.get(inside, {}) if inside else one).get(key)
        return "-" if value is None else f"{value * scale:,.{digits}f}"

    return show


ROWS = {
    "allocated, s": _number("seconds", 1),
    "  s of all cores": _number("core_seconds", 1),
    "  of which making the adapters, about": _number("making_core_seconds", 1),
    "  reads of each adapter": _number("reads", 1),
    "peak memory, MiB": _number("peak_mib", 0),
    "experts": _number("experts", 0),
    "adjusted Rand index": _number("rand", 3),
    "numbers of a sketch a module": _number("sketch", 0),
    "  error of a distance, root mean square": _number("error", 5),
    "  largest": _number("largest_error", 5),
    "  allocated by sketches where exact, s": _number("seconds", 1, "sketched"),
    "  adjusted Rand index by sketches": _number("sketched_rand", 3),
    "centres, s": _number("seconds", 1, "centres"),
    "one newcomer, ms": _number("seconds", 1, "newcomer", 1000),
    "  ms of all cores": _number("core_seconds", 1, "newcomer", 1000),
    "newcomers' adjusted Rand index": _number("newcomers_rand", 3),
    "peak with centres and newcomers, MiB": _number("peak_with_newcomers_mib", 0),
}


if __name__ == "__main__":
    main()
