"""A run takes no more memory for more clients: rounds, allocation, checkpoints, and going on from one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedlease.algorithms.registry import build, methods

MORE = 48.0
"""MiB that 100 clients more may take: half of what they send in one round, let alone keep."""

GROWS = {"flora": "it sends everybody the stack of all clients' adapters"}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel tells its peak on Linux")
@pytest.mark.parametrize("method", sorted(methods().keys() - GROWS.keys()))
def test_memory_does_not_grow_with_clients(method: str, tmp_path: Path) -> None:
    settings = {"rank": 16 if method == "ffa_lora" else 8}  # of FFA-LoRA half is sent
    if "warmup_rounds" in dir(build(method)):
        settings["warmup_rounds"] = 2
    program = Path(__file__).with_name("memory_taken.py")
    done = subprocess.run(
        [sys.executable, str(program), method, json.dumps(settings), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    few, many = json.loads(done.stdout)
    print(method, few, many)
    assert many < few + MORE
