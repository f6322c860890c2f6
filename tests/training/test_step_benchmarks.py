"""The benchmarks of the step on few tokens: their ratios within generous bounds, their counts exact."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def measured(name: str, out: Path, *options: str) -> Any:
    """What a benchmark writes, run in a process of its own with one thread."""
    command = [sys.executable, str(BENCHMARKS / name), *options, f"--out={out}", "--threads=1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


@pytest.mark.slow
@pytest.mark.usefixtures("minilm")
def test_a_mixture_of_four_costs_little_more_than_plain_lora(tmp_path: Path) -> None:
    for _ in range(2):  # once more, if the machine was busy
        options = (
            "--precision=float32",
            "--experts=4",
            "--masked=4",
            "--rows=16",
            "--tokens=32",
            "--repeats=5",
        )
        plain, ours, masked = measured("step.py", tmp_path / "step.json", *options)["ways"]
        if ours["ratio"] < 1.5 and masked["slower_than_ours"] > 1:
            break
    assert plain["ratio"] == 1
    assert ours["ratio"] < 1.5
    assert masked["slower_than_ours"] > 1
    # These depend on no clock.
    assert masked["loss_differs_by"] < 1e-5
    assert ours["peak_ratio"] < 1.15
    assert masked["peak_ratio"] > 2


@pytest.mark.slow
@pytest.mark.usefixtures("minilm")
@pytest.mark.parametrize("experts", [1, 4])
def test_operations_counted_are_those_reckoned_by_hand(tmp_path: Path, experts: int) -> None:
    options = ("--precision=float32", "--attention=eager", "--rows=4", "--tokens=16", "--repeats=1")
    found = measured("limit.py", tmp_path / "limit.json", *options, f"--experts={experts}")
    assert found["flops"] == found["flops_by_hand"]
    assert 0 < found["of_ceiling_percent"] < 100
    assert sum(found["time_percent"].values()) == pytest.approx(100)
