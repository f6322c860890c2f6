"""Prints the MiB that a run takes with few clients and with many, as JSON: METHOD SETTINGS FOLDER.

A program of its own: in a process that has run other tests, what they left free decides what is counted.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from pathlib import Path
from typing import Any

import torch
from toy import ToySite

from fedlease.algorithms.registry import build
from fedlease.engines import shelf
from fedlease.engines.drive import drive
from fedlease.engines.inprocess import InProcess
from fedlease.engines.uploads import Uploads
from fedlease.experiments.checkpoint import Checkpoint, History
from fedlease.experiments.store import Store

MODULES = {f"layer.{number}.query": (512, 512) for number in range(32)}
"""A and B of rank 8 are 1 MiB; many, as the allocation has one module of all clients in memory."""

FEW, MANY = 30, 130


def taken(method: str, settings: dict[str, Any], count: int, folder: Path) -> float:
    """MiB that three rounds with their checkpoints take, and reading the last one."""
    folder.mkdir()
    algorithm, store = build(method, **settings), Store(folder)
    sites = {f"client-{number:03d}": ToySite(number % 3 + number / 1000) for number in range(count)}
    state = algorithm.init(MODULES, 0)
    before = peak(anew=True)
    engine = InProcess(algorithm, sites, uploads=Uploads.of(algorithm, MODULES, None), aside=folder)
    for done in drive(algorithm, state, engine, done=0, rounds=3, score_every=3):
        store.save(Checkpoint(done.number, done.state, engine.kept, History(), engine.holds))
    most = peak() - before
    del engine
    gc.collect()
    before = held()
    found = store.load(type(state))
    assert found is not None
    assert found.round == 3
    return max(most, held() - before)  # while it is read, the file's own pages are there and can go


def peak(*, anew: bool = False) -> float:
    """MiB that this process took at most since it was last asked to count anew."""
    if anew:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # else what the run before left free would hide what is taken
        Path("/proc/self/clear_refs").write_text("5")
    return told("VmHWM")


def held() -> float:
    """MiB of this process's own memory, files that it sees not counted."""
    return told("RssAnon")


def told(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


if __name__ == "__main__":
    torch.set_num_threads(1)
    shelf.Shelf.__init__.__defaults__ = (2**20,)
    method, settings, folder = sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3])
    print(json.dumps([taken(method, settings, count, folder / str(count)) for count in (FEW, MANY)]))
