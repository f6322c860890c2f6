"""Benchmarks of rounds, joint training and growth on a tiny model: what in them is no time is right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def measured(name: str, out: Path, *options: str, **environment: str) -> Any:
    """What a benchmark writes, run in a process of its own with one thread."""
    command = [sys.executable, str(BENCHMARKS / name), *options, f"--out={out}"]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


@pytest.fixture
def still(tiny: Path, tmp_path: Path) -> Path:
    """The tiny model without dropout, so that who trains it makes no difference."""
    folder = tmp_path / "still"
    folder.mkdir()
    for file in tiny.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.slow
def test_clients_trained_in_one_pass_learn_what_they_learn_alone(tiny: Path, tmp_path: Path) -> None:
    options = ("--clients", "3", "--batch", "4", "--tokens", "8", "--rows", "8", "--repeats", "1")
    found = measured("joint.py", tmp_path / "joint.json", f"--model={tiny}", *options)["cases"]
    exact, rounded = found
    assert (exact["precision"], rounded["precision"]) == ("float32", "bfloat16")
    assert exact["gradients_apart"] < 1e-5
    assert exact["losses_apart"] < 1e-5
    assert rounded["losses_apart"] < 0.02
    assert all(row["gain"] > 0 for row in found)


def same_losses(folder: Path, root: Path, flower: str) -> list[Any]:
    """Rounds of one batch a client, whose losses no order of rows can change."""
    load = ("--clients=4", "--rows=8", "--batch=8", "--test-rows=4", "--repeats=1", f"--flower={flower}")
    out = folder.parent / "round.json"
    found = measured("round.py", out, f"--model={folder}", *load, FEDLEASE_DATA=str(root))
    assert 0 < found["outside_percent"] < 100
    ways = {row["way"]: row for row in found["rounds"]}
    ours = ways["fedlease, float32"]["losses"]
    assert len(ours) == 2
    assert ours[0] != ours[1]
    for name in ways.keys() - {"fedlease, bfloat16"}:
        assert ways[name]["losses"] == pytest.approx(ours, abs=1e-5), name
    return list(ways)


@pytest.mark.slow
def test_a_model_built_per_client_learns_the_same(still: Path, glue: Path) -> None:
    assert same_losses(still, glue, "none")[-1] == "loop, model built"


@pytest.mark.slow
def test_a_simulation_of_flower_learns_the_same(still: Path, glue: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'flwr[simulation]'")
    assert "flower, model kept" in same_losses(still, glue, "kept")


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux", reason="the kernel's peak of a process is read as Linux tells it"
)
def test_growth_is_measured_and_drawn(tiny: Path, tmp_path: Path) -> None:
    axes = ("--clients", "8", "32", "--experts", "2", "--rows", "--rounds", "2", "4")
    stem = tmp_path / "growth"
    found = measured("growth.py", tmp_path / "g.json", f"--model={tiny}", *axes, f"--figure={stem}")["growth"]
    assert {axis: [row[axis] for row in rows] for axis, rows in found.items()} == {
        "clients": [8, 32],
        "experts": [2],
        "rounds": [2, 4],
    }
    few, many = found["clients"]
    assert many["seconds"] > few["seconds"]
    assert all(row["peak"] >= row["held"] > 0 for rows in found.values() for row in rows)
    assert stem.with_suffix(".png").stat().st_size > 10_000
    assert stem.with_suffix(".svg").read_text().startswith("<?xml")
