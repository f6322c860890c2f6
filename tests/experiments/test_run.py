"""Whole runs on a tiny model: exact whatever the order, a kill or a restart; frozen is frozen; the record."""

from __future__ import annotations

import json
import os
import random
import shutil
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
from fedlease.core.adapter import Learn, Model
from fedlease.core.errors import FedLeaseError
from fedlease.engines.inprocess import InProcess
from fedlease.experiments.prepare import Federation, prepare, settle
from fedlease.experiments.spec import make_spec
from fedlease.experiments.store import Store
from fedlease.tuner import FedLeaseLayer

Make = Callable[..., dict[str, Any]]


def files(folder: Path) -> dict[str, bytes]:
    """Every adapter file of a run."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for kind in ("adapters", "heads")
        for path in sorted((folder / kind).rglob("*"))
        if path.is_file()
    }


def federation_of(spec: dict[str, Any]) -> Federation:
    made = make_spec(spec)
    return prepare(made, settle(made, Path.cwd()))


def core_model(folder: Path, loaded: PeftModel) -> Model:
    """What PEFT loaded, as fedlease's own type."""
    weights = {}
    for path, layer in loaded.base_model.model.named_modules():
        if isinstance(layer, FedLeaseLayer):
            weights |= {f"{path}.{kind}": t for kind, t in zip("AB", layer.read("default"), strict=False)}
            weights[f"{path}.router"] = layer.read("default")[2]
    adapter = next(m for m in loaded.modules() if isinstance(m, FedLeaseLayer)).adapters["default"]
    assert json.loads((folder / "adapter_config.json").read_text())["assigned_expert"] == adapter.assigned
    return Model(adapter, weights)


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


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_order_of_clients_changes_nothing(precision: str, spec_of: Make, tmp_path: Path) -> None:
    spec = spec_of()
    spec["model"] = {**spec["model"], "precision": precision}
    turned = {**spec, "clients": spec["clients"][::-1]}
    first, second = fedlease.run(spec, tmp_path / "a"), fedlease.run(turned, tmp_path / "b")
    assert files(first.folder) == files(second.folder)
    assert scores(first.folder) == scores(second.folder)


def test_another_seed_changes_the_result(spec_of: Make, tmp_path: Path) -> None:
    first = fedlease.run(spec_of(rounds=2), tmp_path / "a")
    second = fedlease.run(spec_of(rounds=2, seed=1), tmp_path / "b")
    assert files(first.folder).keys() == files(second.folder).keys()
    assert files(first.folder) != files(second.folder)


KEEPING = {  # methods whose clients hold something between rounds
    "fedlease": {"name": "fedlease", "rank": 2},
    "local routers": {"name": "fedlease", "rank": 2, "router": "local", "experts": 2},
    "long warm-up": {"name": "fedlease", "rank": 2, "warmup_rounds": 2},
    "local only": {"name": "local_only", "rank": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fedlease", "local only"])
def test_killed_at_any_moment_and_resumed_equals_uninterrupted(
    method: str, spec_of: Make, tmp_path: Path
) -> None:
    """A process that is sent SIGKILL while it trains, three times, at moments that chance picks."""
    spec = spec_of(rounds=10, method=KEEPING[method])
    whole = fedlease.run(spec, tmp_path / "whole")
    folder, dice = tmp_path / "killed", random.Random(method)
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    code = (
        "import json, sys, fedlease\n"
        "if len(sys.argv) == 3: fedlease.run(json.load(open(sys.argv[2])), sys.argv[1])\n"
        "else: fedlease.resume(sys.argv[1])"
    )
    for kill in range(4):
        first = [] if (folder / "spec.json").exists() else [str(tmp_path / "spec.json")]
        process = subprocess.Popen([sys.executable, "-c", code, str(folder), *first])
        try:
            if kill < 3:
                _wait_for_a_checkpoint_after(_checkpoint(folder), folder, process)
                time.sleep(dice.uniform(0, 0.15))
                process.send_signal(signal.SIGKILL)
            assert process.wait(90) == (-signal.SIGKILL if kill < 3 else 0)
        finally:
            process.kill()
    assert files(folder) == files(whole.folder)
    assert scores(folder) == scores(whole.folder)
    assert fedlease.Run(folder).record["status"] == "complete"


def _checkpoint(folder: Path) -> int:
    numbers = [int(path.name.removeprefix("round-")) for path in (folder / "checkpoint").glob("round-*")]
    return max(numbers, default=0)


def _wait_for_a_checkpoint_after(number: int, folder: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while _checkpoint(folder) <= number and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)


class Killed(BaseException):
    """Stands for the end of the process: nothing below a test catches it."""


@pytest.mark.parametrize("method", list(KEEPING))
def test_stopped_before_any_write_and_resumed_equals_uninterrupted(
    method: str, spec_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every rename and removal a run does, in turn, is the moment at which it dies."""
    clients = [
        {"name": t, "data": t, "count": 2, "train_rows": 8, "test_rows": 4} for t in ("tone", "answers")
    ]
    spec = spec_of(method=KEEPING[method], clients=clients)
    whole = fedlease.run(spec, tmp_path / "whole")
    left = 0

    def dying(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed
            return original(*arguments, **options)

        return call

    for module, name in ((Path, "replace"), (Path, "rename"), (shutil, "rmtree")):
        monkeypatch.setattr(module, name, dying(getattr(module, name)))
    deaths = 0
    for moment in range(1, 200, 3 if method == "fedlease" else 7):
        folder, left = tmp_path / f"killed-{moment}", moment
        try:
            fedlease.run(spec, folder)
        except Killed:
            deaths += 1
        else:
            break
        left = 0
        again = fedlease.resume(folder) if (folder / "spec.json").exists() else fedlease.run(spec, folder)
        assert again.record["status"] == "complete"
        assert files(folder) == files(whole.folder)
        assert scores(folder) == scores(whole.folder)
    assert deaths >= 3


def test_resuming_a_finished_run_changes_nothing(spec_of: Make, tmp_path: Path) -> None:
    run = fedlease.run(spec_of(rounds=2), tmp_path / "run")
    before = (run.folder / "record.json").read_bytes()
    assert fedlease.resume(run.folder).record["status"] == "complete"
    assert (run.folder / "record.json").read_bytes() == before


def test_frozen_tensors_are_bit_equal_afterwards(spec_of: Make) -> None:
    spec = spec_of(method={"name": "fedlease", "rank": 2, "experts": 2})
    federation = federation_of(spec)
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
    site = federation_of(spec).sites["tone-0"]
    batch = site.task.collate(site.test_rows, range(len(site.test_rows)), 0)
    labels = batch.pop("labels")
    logits = model(**batch).logits
    accuracy = float((logits.argmax(-1) == labels).double().mean())
    assert accuracy == pytest.approx(run.metrics["tone-0"]["accuracy"])
    used = core_model(run.adapter("tone-0"), model)
    network = site.resident.put(used, 2).eval()
    torch.testing.assert_close(network(**batch).logits, logits, rtol=0, atol=1e-5)


def test_nan_names_the_client_and_the_round(spec_of: Make, tmp_path: Path) -> None:
    spec = spec_of(training={"learning_rate": 1e30, "batch_size": 4, "max_grad_norm": 0.0})
    with pytest.raises(FedLeaseError, match=r"client answers-0, round 1: .*learning_rate"):
        fedlease.run(spec, tmp_path / "run")


def test_an_occupied_folder_is_left_alone(spec_of: Make, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(FedLeaseError, match="choose another --out"):
            fedlease.run(spec_of(), place)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_run_that_broke_off_in_its_first_round_gives_way(spec_of: Make, tmp_path: Path) -> None:
    with pytest.raises(FedLeaseError, match="learning_rate"):
        fedlease.run(spec_of(training={"learning_rate": 1e30, "batch_size": 4}), tmp_path / "run")
    run = fedlease.run(spec_of(rounds=2), tmp_path / "run")
    assert run.record["spec"]["training"]["learning_rate"] == 0.01
    with pytest.raises(FedLeaseError, match="already holds a run: go on with 'fedlease resume"):
        fedlease.run(spec_of(rounds=2), tmp_path / "run")


def test_two_processes_do_not_share_a_run(spec_of: Make, tmp_path: Path) -> None:
    run = fedlease.run(spec_of(rounds=2), tmp_path / "run")
    record = run.record
    (run.folder / "record.json").write_text(json.dumps({**record, "status": "running"}))
    with Store(run.folder).locked(), pytest.raises(FedLeaseError, match="another process is at this run"):
        fedlease.resume(run.folder)


def test_resume_needs_nothing_of_where_the_run_began(
    spec_of: Make, glue: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = [{"name": "a", "data": "sst2", "count": 2, "train_rows": 16, "test_rows": 4}]
    spec = spec_of(clients=clients, rounds=4)
    spec["model"] = {**spec["model"], "name": tiny.name}
    monkeypatch.chdir(tiny.parent)
    monkeypatch.setenv("FEDLEASE_DATA", os.path.relpath(glue))
    whole = fedlease.run(spec, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("fedlease.experiments.run._write_adapters", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            fedlease.run(spec, tmp_path / "cut")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDLEASE_DATA", "nowhere")
    again = fedlease.resume(tmp_path / "cut")
    assert files(again.folder) == files(whole.folder)
    assert again.record["spec"] == whole.record["spec"]
    assert [session["from_round"] for session in again.record["sessions"]] == [1, 5]


def test_the_record_tells_every_setting(spec_of: Make, tmp_path: Path) -> None:
    record = fedlease.run(
        spec_of(method={"name": "fedlease_paper", "rank": 2}, rounds=2), tmp_path / "run"
    ).record
    told = record["spec"]["method"]
    assert (told["name"], told["rank"], told["distance"], told["min_experts"]) == (
        "fedlease_paper",
        2,
        "b",
        2,
    )
    assert told["alpha"] == 16.0
    assert record["metric"] == "accuracy"


@pytest.mark.parametrize("name", ["local_only", "fedit"])
def test_weights_that_break_in_the_last_step_are_noticed(
    name: str, spec_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of the last step is finite, and what it does to the weights is not."""
    from fedlease.training import site

    def fit(network: Any, parameters: list[torch.nn.Parameter], *_: Any, **__: Any) -> None:
        parameters[3].data[0, 0] = float("nan")

    monkeypatch.setattr(site, "fit", fit)
    with pytest.raises(FedLeaseError, match=r"client answers-0, round 1: .* became NaN or infinite"):
        fedlease.run(spec_of(method={"name": name, "rank": 2}, rounds=1), tmp_path / "run")


def test_a_run_does_not_go_on_with_other_rows_or_another_model(spec_of: Make, tmp_path: Path) -> None:
    run = fedlease.run(spec_of(rounds=2), tmp_path / "run")
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
