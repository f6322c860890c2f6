"""Whole runs on a tiny model: exact whatever the order, a kill or a restart; frozen is frozen; the record."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

import fedlease
from fedlease.algorithms.registry import methods
from fedlease.core.adapter import Learn
from fedlease.core.errors import FedLeaseError
from fedlease.core.progress import unwatched
from fedlease.engines.inprocess import InProcess
from fedlease.experiments.prepare import prepare
from fedlease.experiments.spec import make_spec

Make = Callable[..., dict[str, Any]]


def files(folder: Path) -> dict[str, bytes]:
    """Every adapter file of a run."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for kind in ("adapters", "heads")
        for path in sorted((folder / kind).rglob("*"))
        if path.is_file()
    }


def scores(folder: Path) -> list[dict[str, Any]]:
    return [entry["metrics"] for entry in fedlease.Run(folder).record["rounds"]]


@pytest.mark.parametrize("name", list(methods()))
def test_every_method_runs_and_tells(name: str, spec_of: Make, tmp_path: Path) -> None:
    run = fedlease.run(spec_of(method={"name": name, "rank": 2}), tmp_path / "run")
    record = run.record
    assert record["status"] == "complete"
    assert [entry["round"] for entry in record["rounds"]] == [1, 2, 3]
    clients = ["answers-0", "answers-1", "tone-0", "tone-1"]
    assert sorted(record["clients"]) == clients
    for entry in record["rounds"]:
        assert sorted(entry["metrics"]) == sorted(entry["loss"]) == clients
        assert all(0 <= scores["accuracy"] <= 1 for scores in entry["metrics"].values())
        assert entry["rows"] == {"train": 4 * 24, "score": 4 * 10}
        parts = entry["seconds"]
        assert parts["total"] == pytest.approx(parts["train"] + parts["score"] + parts["other"])
    assert record["versions"]["fedlease"] == fedlease.__version__
    assert {"torch", "transformers", "peft"} <= set(record["versions"])
    assert record["seed"] == 0
    assert (run.allocation is not None) == name.startswith("fedlease")
    assert 0 <= run.accuracy <= 1


def test_the_order_of_clients_changes_nothing(spec_of: Make, tmp_path: Path) -> None:
    spec = spec_of()
    turned = {**spec, "clients": spec["clients"][::-1]}
    first, second = fedlease.run(spec, tmp_path / "a"), fedlease.run(turned, tmp_path / "b")
    assert files(first.folder) == files(second.folder)
    assert scores(first.folder) == scores(second.folder)


def test_another_seed_changes_the_result(spec_of: Make, tmp_path: Path) -> None:
    first = fedlease.run(spec_of(rounds=1), tmp_path / "a")
    second = fedlease.run(spec_of(rounds=1, seed=1), tmp_path / "b")
    assert files(first.folder).keys() == files(second.folder).keys()
    assert files(first.folder) != files(second.folder)


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_equals_uninterrupted(spec_of: Make, tmp_path: Path) -> None:
    spec = spec_of(rounds=12)
    whole = fedlease.run(spec, tmp_path / "whole")
    folder, dice = tmp_path / "killed", random.Random(0)
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    begin = (
        "import json, sys, fedlease; fedlease.run(json.load(open(sys.argv[1])), sys.argv[2])",
        str(tmp_path / "spec.json"),
    )
    kills = 0
    for attempt in range(20):
        start = (
            begin
            if not (folder / "spec.json").exists()
            else ("import sys, fedlease; fedlease.resume(sys.argv[1])",)
        )
        process = subprocess.Popen([sys.executable, "-c", *start, str(folder)])
        began = len(list((folder / "checkpoint").glob("round-*"))) if attempt else 0
        deadline = time.monotonic() + 60
        progressed = _checkpoint(folder)
        while process.poll() is None and time.monotonic() < deadline:
            if attempt >= 4:
                process.wait(60)
            elif _checkpoint(folder) > progressed or (attempt == 0 and (folder / "spec.json").exists()):
                time.sleep(dice.uniform(0, 0.15))
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
            time.sleep(0.002)
        assert began >= 0
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
    assert kills >= 3
    assert files(folder) == files(whole.folder)
    assert scores(folder) == scores(whole.folder)
    assert fedlease.Run(folder).record["status"] == "complete"


def _checkpoint(folder: Path) -> int:
    numbers = [int(path.name.removeprefix("round-")) for path in (folder / "checkpoint").glob("round-*")]
    return max(numbers, default=0)


def test_resuming_a_finished_run_changes_nothing(spec_of: Make, tmp_path: Path) -> None:
    run = fedlease.run(spec_of(rounds=1), tmp_path / "run")
    before = (run.folder / "record.json").read_bytes()
    assert fedlease.resume(run.folder).record["status"] == "complete"
    assert (run.folder / "record.json").read_bytes() == before


def test_frozen_tensors_are_bit_equal_afterwards(spec_of: Make) -> None:
    spec = spec_of(method={"name": "fedlease", "rank": 2, "experts": 2})
    federation = prepare(make_spec(spec), Path.cwd(), unwatched)
    base = federation.base

    def frozen() -> dict[str, torch.Tensor]:
        body = {name.replace(".base_layer", ""): t.clone() for name, t in base.model.state_dict().items()}
        head = {f"head.{name}": t.clone() for name, t in base.heads[2].state_dict().items()}
        return {name: t for name, t in body.items() if not name.startswith(base.head_name)} | head

    before = frozen()
    site = federation.sites["tone-0"]
    algorithm = federation.algorithm
    engine = InProcess(algorithm, federation.sites)
    state = algorithm.init(federation.base.modules, 0)
    for _ in range(2):
        state = algorithm.round(state, engine)
    down = algorithm.serve(state, "tone-0")
    given = algorithm.deploy(down, {})
    trained = site.train(given, Learn(round=9))
    after = frozen()
    assert all(torch.equal(before[name], after[name]) for name in before)
    own, changed = given.adapter.assigned, 0
    for name, tensor in given.weights.items():
        if name.endswith(".router") or given.adapter.experts == 1:
            changed += not torch.equal(trained[name], tensor)
            continue
        for expert in range(given.adapter.experts):
            if expert != own:
                assert torch.equal(trained[name][expert], tensor[expert])
        changed += not torch.equal(trained[name][own], tensor[own])
    assert changed == len(given.weights)


def test_saved_adapters_load_with_peft_and_score_the_same(spec_of: Make, tmp_path: Path, tiny: Path) -> None:
    spec = spec_of(method={"name": "fedlease", "rank": 2, "experts": 2})
    run = fedlease.run(spec, tmp_path / "run")
    base = AutoModelForSequenceClassification.from_pretrained(tiny)
    model = PeftModel.from_pretrained(base, run.adapter("tone-0")).eval()
    head = load_file(run.folder / "heads" / "2.safetensors")
    base.classifier.load_state_dict(head)
    site = prepare(make_spec(spec), Path.cwd(), unwatched).sites["tone-0"]
    rows = site.test_rows
    hits = 0
    for index in range(len(rows)):
        batch = site.task.collate(rows, [index], 0)
        label = batch.pop("labels")
        hits += int(model(**batch).logits.argmax() == label)
    assert hits / len(rows) == run.metrics["tone-0"]["accuracy"]


def test_nan_names_the_client_and_the_round(spec_of: Make, tmp_path: Path) -> None:
    spec = spec_of(training={"learning_rate": 1e30, "batch_size": 4, "max_grad_norm": 0.0})
    with pytest.raises(FedLeaseError, match=r"client answers-0, round 1: .*learning_rate"):
        fedlease.run(spec, tmp_path / "run")


def test_an_occupied_folder_is_left_alone(spec_of: Make, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FedLeaseError, match="already exists and is not empty"):
        fedlease.run(spec_of(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_run_does_not_go_on_with_other_rows_or_another_model(spec_of: Make, tmp_path: Path) -> None:
    run = fedlease.run(spec_of(rounds=1), tmp_path / "run")
    for key, says in (("fingerprint", "is not the one"), ("rows_hash", "rows of client answers-0")):
        resolved = json.loads((run.folder / "spec.json").read_text())
        record = json.loads((run.folder / "record.json").read_text())
        (run.folder / "record.json").write_text(json.dumps({**record, "status": "running"}))
        (resolved["model"] if key == "fingerprint" else resolved["clients"]["answers-0"])[key] = "0"
        folder = tmp_path / key
        folder.mkdir()
        (folder / "spec.json").write_text(json.dumps(resolved))
        with pytest.raises(FedLeaseError, match=says):
            fedlease.resume(folder)


def test_a_folder_of_another_format_is_refused(spec_of: Make, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text('{"format": 99}')
    with pytest.raises(FedLeaseError, match="has format 99"):
        fedlease.resume(tmp_path)
    with pytest.raises(FedLeaseError, match="not the folder of a run"):
        fedlease.resume(tmp_path / "nowhere")


@pytest.mark.slow
def test_real_model_on_real_text(glue: Path, minilm: str, tmp_path: Path) -> None:
    """MiniLM on GLUE: FedLEASE finds the two tasks and learns the one that is learnt fast."""
    os.environ.pop("FEDLEASE_DATA", None)
    clients = [
        {"name": task, "data": task, "count": 3, "train_rows": 96, "test_rows": 60}
        for task in ("sst2", "mrpc")
    ]
    spec = {
        "rounds": 4,
        "score_every": 4,
        "model": {"name": minilm, "max_length": 64},
        "method": {"name": "fedlease", "rank": 4},
        "training": {"learning_rate": 4e-3, "batch_size": 16, "epochs": 2},
        "data": {"root": str(glue)},
        "clients": clients,
    }
    run = fedlease.run(spec, tmp_path / "run")
    assert run.allocation is not None
    assert run.allocation.labels == (0, 0, 0, 1, 1, 1)
    sst2 = [run.metrics[f"sst2-{i}"]["accuracy"] for i in range(3)]
    assert sum(sst2) / 3 > 0.6
    first, last = (run.record["rounds"][i]["loss"] for i in (0, -1))
    assert sum(last.values()) < sum(first.values())
    seconds = run.record["rounds"][-2]["seconds"]  # not scored: training alone
    assert seconds["other"] < 0.05 * seconds["total"]
