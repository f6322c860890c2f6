"""A run takes no more memory for more clients: rounds, allocation, checkpoints, and going on from one."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path
from typing import Any

import pytest
from toy import ToySite

from fedlease.algorithms.registry import build, methods
from fedlease.engines import shelf
from fedlease.engines.drive import drive
from fedlease.engines.inprocess import InProcess
from fedlease.engines.uploads import Uploads
from fedlease.experiments.checkpoint import Checkpoint, History
from fedlease.experiments.store import Store

MODULES = {f"layer.{number}.query": (512, 512) for number in range(32)}
"""A and B of rank 2 are 256 KiB."""

FEW, MANY = 30, 130
MORE = 12.0
"""MiB that 100 clients more may take: half of what each sends in one round, let alone keeps."""

GROWS = {"flora": "it sends everybody the stack of all clients' adapters"}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel tells its peak on Linux")
@pytest.mark.parametrize("method", sorted(methods().keys() - GROWS.keys()))
def test_memory_does_not_grow_with_clients(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf.Shelf.__init__, "__defaults__", (2**20,))
    ranks = {"lora_fair": 2, "ffa_lora": 4}  # of FFA-LoRA half is sent
    settings: dict[str, Any] = {"rank": ranks.get(method, 2)}
    if "warmup_rounds" in dir(build(method)):
        settings["warmup_rounds"] = 2
    peaks = [taken(method, settings, count, tmp_path / str(count)) for count in (FEW, MANY)]
    print(method, peaks)
    assert peaks[1] < peaks[0] + MORE


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
        ctypes.CDLL(None).malloc_trim(0)  # else what others left free would hide what is taken
        Path("/proc/self/clear_refs").write_text("5")
    return told("VmHWM")


def held() -> float:
    """MiB of this process's own memory, files that it sees not counted."""
    return told("RssAnon")


def told(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024
