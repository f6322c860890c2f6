"""`fedlease watch` on several runs at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from watched import save

from fedlease.cli.watch_runs import Runs
from fedlease.experiments.lock import lock
from fedlease.experiments.manifest import Manifest, Place, write_manifest


def test_a_sweep_is_shown_run_by_run(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedlease.cli.watch_runs.GRACE", 0.2)
    store, places = tmp_path / "store", []
    for seed, done in enumerate((4, 2, 1)):
        save(store / f"fedit-{seed}", done=done)
        places.append(Place("FedIT", "", seed, f"../store/fedit-{seed}"))
    places.append(Place("FedIT", "", 3, "../store/fedit-3"))
    write_manifest(tmp_path / "table", Manifest("table9", "small", "A tiny table", places))
    with lock(store / "fedit-1"):
        code, shown, _ = command("watch", tmp_path / "table", "--once")
        assert code == 0
        assert "4 runs: 1 going on, 1 stopped, 1 complete, 1 waiting" in shown
        states = {line.split("  ")[0]: line.split()[3:5] for line in shown.splitlines() if "seed" in line}
        assert states["FedIT seed 1"] == ["going", "on"]
        assert states["FedIT seed 0"] == ["complete", "4/4"]
        code, shown, _ = command("watch", tmp_path, "--once")
        assert "3 runs: 1 going on, 1 stopped, 1 complete" in shown  # those of the store
    code, shown, complaint = command("watch", tmp_path / "table")
    assert code == 2
    assert "nothing is going on, and 3 of 4 runs are not complete" in complaint


def test_a_sweep_ends_with_its_last_run(tmp_path: Path) -> None:
    folders = {f"run-{seed}": tmp_path / f"run-{seed}" for seed in range(2)}
    save(folders["run-0"], done=4)
    runs = Runs("both", folders)
    assert runs.look()
    save(folders["run-1"], done=4)
    assert not runs.look()
    lines = runs.lines()
    assert [line.split(",")[0] for line in lines[:2]] == ["  run-0: complete", "  run-1: complete"]
    assert runs.verdict() == "2 runs: 2 complete"
