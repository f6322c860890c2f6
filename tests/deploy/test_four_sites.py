"""Four organisations with TLS and node keys, MiniLM and GLUE: bit for bit the weights of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from trials import PATIENCE, assert_equal, logs_told

import fedlease
from fedlease.deploy.trial import Trial, deploy
from fedlease.experiments.spec import make_spec

pytestmark = pytest.mark.slow

TASKS = ("mrpc", "sst2")


def spec_for(model: str, root: Path) -> dict[str, Any]:
    rows = {"count": 2, "train_rows": 16, "test_rows": 8}
    return {
        "name": "real",
        "rounds": 2,
        "score_every": 2,
        "model": {"name": model, "threads": 1, "precision": "float32", "max_length": 32},
        "method": {"name": "fedlease", "rank": 4, "warmup_rounds": 1, "experts": 2},
        "training": {"batch_size": 8, "epochs": 1, "learning_rate": 0.002},
        "data": {"root": str(root)},
        "exchange": {"deadline": PATIENCE, "quorum": 1.0},
        "clients": [{"name": name, "data": name, **rows} for name in TASKS],
    }


def test_four_sites_with_tls_give_the_weights_of_one_process(
    minilm: str, glue: Path, tmp_path: Path, ended: None
) -> None:
    spec = make_spec(spec_for(minilm, glue))
    expected = fedlease.run(spec, tmp_path / "one")
    folder = tmp_path / "trial"
    with logs_told(folder):
        run = deploy(spec, tmp_path, folder, tls=True, patience=PATIENCE)
    assert len(run.record["clients"]) == 4
    assert run.allocation is not None
    assert run.allocation.num_experts == 2
    assert_equal(Trial(folder, tls=True), run, expected)
    assert [entry["bytes"] for entry in run.record["rounds"]] == [
        entry["bytes"] for entry in expected.record["rounds"]
    ]
