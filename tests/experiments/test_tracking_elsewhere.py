"""MLflow and Weights & Biases are told what the record tells; without a network."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from runs import Make
from tracked import Scalars, needs, same, told

import fedlease


@needs("mlflow")
@pytest.mark.slow
def test_mlflow_is_told_what_the_record_tells(
    spec_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    where = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", where)
    run = fedlease.run(spec_of(), tmp_path / "run", track=["mlflow"])
    name = json.loads((run.folder / "trackers" / "mlflow.json").read_text())["run"]
    client = mlflow.MlflowClient(where)
    stored = client.get_run(name)
    assert (stored.info.status, stored.info.run_name) == ("FINISHED", "run")
    assert stored.data.params["method.rank"] == "2"
    found = {
        key: {point.step: point.value for point in client.get_metric_history(name, key)}
        for key in stored.data.metrics
    }
    same(found, told(run.record), 1e-12)


@needs("wandb")
@pytest.mark.slow
def test_wandb_is_told_what_the_record_tells(
    spec_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = fedlease.run(spec_of(), tmp_path / "run", track=["wandb"])
    name = json.loads((run.folder / "trackers" / "wandb.json").read_text())["run"]
    (stored,) = (run.folder / "trackers").glob(f"wandb/offline-run-*/run-{name}.wandb")
    same(_history(stored), told(run.record), 1e-12)


def _history(path: Path) -> Scalars:
    """The numbers in a file of Weights & Biases, whose own reader is not Python: a log as of LevelDB."""
    from wandb.proto.wandb_internal_pb2 import Record

    found, whole = Scalars(), b""
    content, at, block = path.read_bytes(), 7, 32768
    while at < len(content):
        if block - at % block < 7:  # the end of a block is filled up
            at += block - at % block
            continue
        size, kind = struct.unpack_from("<HB", content, at + 4)
        whole, at = whole + content[at + 7 : at + 7 + size], at + 7 + size
        if kind in (2, 3):  # the first of several pieces, or one between
            continue
        record, whole = Record.FromString(whole), b""
        for item in record.history.item:
            name = item.key or "/".join(item.nested_key)
            if not name.startswith("_"):
                found.setdefault(name, {})[int(record.history.step.num)] = json.loads(item.value_json)
    return found
