"""Runs are exact: whatever the order of clients, a kill, or a restart elsewhere; frozen is frozen."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import Killed, Make, begin, federation_of, files, scores

import fedlease
from fedlease.core.adapter import Learn
from fedlease.core.errors import FedLeaseError
from fedlease.engines.inprocess import InProcess
from fedlease.experiments.store import Store


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
    "fedlease": {"name": "fedlease", "rank": 2, "warmup_rounds": 1},
    "local routers": {"name": "fedlease", "rank": 2, "router": "local", "experts": 2, "warmup_rounds": 1},
    "long warm-up": {"name": "fedlease", "rank": 2, "warmup_rounds": 2},
    "local only": {"name": "local_only", "rank": 2},
    "in int8": {"name": "fedsa_lora", "rank": 2},
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
    for kill in range(4):
        begun = (folder / "spec.json").exists()
        process = begin(fedlease.resume, folder) if begun else begin(fedlease.run, spec, folder)
        try:
            if kill < 3:
                _wait_for_a_checkpoint_after(_checkpoint(folder), folder, process)
                time.sleep(dice.uniform(0, 0.15))
                process.kill()
            process.join(90)
            assert process.exitcode == (-signal.SIGKILL if kill < 3 else 0)
        finally:
            process.kill()
    assert files(folder) == files(whole.folder)
    assert scores(folder) == scores(whole.folder)
    assert fedlease.Run(folder).record["status"] == "complete"


def _checkpoint(folder: Path) -> int:
    numbers = [int(path.name.removeprefix("round-")) for path in (folder / "checkpoint").glob("round-*")]
    return max(numbers, default=0)


def _wait_for_a_checkpoint_after(number: int, folder: Path, process: BaseProcess) -> None:
    deadline = time.monotonic() + 90
    while _checkpoint(folder) <= number and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.002)


@pytest.mark.parametrize("method", list(KEEPING))
def test_stopped_before_any_write_and_resumed_equals_uninterrupted(
    method: str, spec_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every rename and removal a run does, in turn, is the moment at which it dies."""
    clients = [
        {"name": t, "data": t, "count": 2, "train_rows": 8, "test_rows": 4} for t in ("tone", "answers")
    ]
    exchange = {"wire": "int8" if method == "in int8" else "float32"}
    spec = spec_of(method=KEEPING[method], clients=clients, exchange=exchange)
    whole = fedlease.run(spec, tmp_path / "whole")
    sent = [entry["bytes"] for entry in whole.record["rounds"]]
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
    for moment in range(1, 200, 1 if method == "local only" else 5):
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
        assert [entry["bytes"] for entry in again.record["rounds"]] == sent
    assert deaths >= 3


def test_resuming_a_finished_run_changes_nothing(spec_of: Make, tmp_path: Path) -> None:
    run = fedlease.run(spec_of(rounds=2), tmp_path / "run")
    before = (run.folder / "record.json").read_bytes()
    assert fedlease.resume(run.folder).record["status"] == "complete"
    assert (run.folder / "record.json").read_bytes() == before


def test_frozen_tensors_are_bit_equal_afterwards(spec_of: Make) -> None:
    spec = spec_of(method={"name": "fedlease", "rank": 2, "experts": 2, "warmup_rounds": 1})
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


def test_what_a_killed_process_left_half_done_is_cleared_away(spec_of: Make, tmp_path: Path) -> None:
    run = fedlease.run(spec_of(rounds=2), tmp_path / "run")
    (run.folder / "record.json").write_text(json.dumps({**run.record, "status": "running"}))
    half = run.folder / "checkpoint" / ".round-000003.partial"
    half.mkdir()
    for path in (half / ".kept.json.7.partial", half / "state.json", run.folder / ".record.json.7.partial"):
        path.write_text("{")
    assert fedlease.resume(run.folder).record["status"] == "complete"
    assert not half.exists()
    assert not (run.folder / ".record.json.7.partial").exists()


def test_two_processes_do_not_share_a_run(spec_of: Make, tmp_path: Path) -> None:
    run = fedlease.run(spec_of(rounds=2), tmp_path / "run")
    record = run.record
    (run.folder / "record.json").write_text(json.dumps({**record, "status": "running"}))
    with Store(run.folder).locked(), pytest.raises(FedLeaseError, match="another process is at this run"):
        fedlease.resume(run.folder)


def test_another_version_does_not_go_on_with_a_run(spec_of: Make, tmp_path: Path) -> None:
    run = fedlease.run(spec_of(rounds=2), tmp_path / "run")
    path, asked = run.folder / "record.json", (run.folder / "spec.json").read_bytes()
    older = {**run.record, "versions": {**run.record["versions"], "fedlease": "0.0.1"}}
    path.write_text(json.dumps(older))
    assert fedlease.resume(run.folder).record == older  # it is done: there is nothing to go on with
    says = f"record.json is from fedlease 0.0.1 and this is {fedlease.__version__}: go on with that one"
    with pytest.raises(FedLeaseError, match=says):
        fedlease.resume(run.folder, rounds=3)
    path.write_text(json.dumps({**older, "status": "running"}))
    with pytest.raises(FedLeaseError, match=says):
        fedlease.resume(run.folder)
    assert (run.folder / "spec.json").read_bytes() == asked


def test_a_run_in_its_first_round_is_not_overwritten_by_another(spec_of: Make, tmp_path: Path) -> None:
    store, other = Store(tmp_path / "run"), spec_of(rounds=3)
    with store.created({"spec": {}, "clients": {}}):
        (store.folder / "trackers").mkdir()
        before = (store.folder / "spec.json").read_bytes()
        with pytest.raises(FedLeaseError, match="another process is at this run"):
            fedlease.run(other, store.folder)
        assert (store.folder / "spec.json").read_bytes() == before
        assert (store.folder / "trackers").is_dir()
    assert fedlease.run(other, store.folder).record["status"] == "complete"  # once that one is gone


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


def test_a_model_that_was_moved_is_looked_for_by_its_name(
    spec_of: Make, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(rounds=2)
    spec["model"] = {**spec["model"], "name": "bert"}
    shutil.copytree(tiny, tmp_path / "before" / "bert")
    monkeypatch.chdir(tmp_path / "before")
    with monkeypatch.context() as patch:
        patch.setattr("fedlease.experiments.run._write_adapters", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            fedlease.run(spec, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "before").rename(tmp_path / "after")
    with pytest.raises(FedLeaseError, match="cannot load model"):
        fedlease.resume(tmp_path / "run")
    monkeypatch.chdir(tmp_path / "after")
    assert fedlease.resume(tmp_path / "run").record["status"] == "complete"


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
