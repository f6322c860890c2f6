"""What a sweep is to do, before any process starts: its trials, its processes, what diverged before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_sweep import Silent, tiny_preset, told

import fedlease
from fedlease.cli.collect import collect, waiting
from fedlease.core.errors import FedLeaseError
from fedlease.experiments.jobs import Job
from fedlease.experiments.manifest import Tuned
from fedlease.experiments.presets import find
from fedlease.experiments.sweep import Sweep
from fedlease.report.gather import described


def test_a_method_that_always_diverges_stops_no_other(tiny: Path, tmp_path: Path) -> None:
    sweep = Sweep([tiny_preset(str(tiny))], "small", tmp_path)
    for one in sweep.tuning.trials["fedit"].values():
        folder = one.folder(sweep.store)
        folder.mkdir(parents=True)
        (folder / "diverged.json").write_text(json.dumps({"error": "x", "version": fedlease.__version__}))
    assert sweep.tuning.hopeless() == {"fedit": "training diverged at every learning rate that was tried"}
    assert {one.spec.method["name"] for one in sweep.todo()} == {"fedlease"}
    assert {one.spec.method["name"] for one in sweep.foreseen()} == {"fedlease"}
    (folder / "diverged.json").write_text(json.dumps({"error": "x", "version": "0.0.1"}))
    assert sweep.known()[1].diverged(sweep.store) is None  # another version's word does not count


def test_a_run_that_diverged_is_said_in_every_sweep(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep([tiny_preset(str(tiny))], "small", tmp_path)
    for key in sweep.tuning.trials:
        sweep.tuning._known[key] = Tuned(1e-3, {"0.001": 0.5})
    trials = {one.name for one in sweep.tuning.jobs}
    (first, *others) = (one for one in sweep.known() if one.name not in trials)
    folder = first.folder(sweep.store)
    folder.mkdir(parents=True)
    (folder / "diverged.json").write_text(json.dumps({"error": "x", "version": fedlease.__version__}))
    assert sweep.diverged() == {first.name: "training diverged: x"}
    todo = {one.name for one in sweep.todo()}
    assert first.name not in todo
    assert {one.name for one in others} <= todo
    monkeypatch.setattr("fedlease.experiments.sweep.measure", told)
    monkeypatch.setattr("fedlease.experiments.sweep.carry_out", lambda *_: {})
    with pytest.raises(FedLeaseError, match=f"{first.name}: training diverged: x"):
        sweep.run(Silent())
    sweep.write_manifests()
    (said, *_) = waiting([sweep.folder(sweep.presets[0])])
    assert said.startswith("FedIT seed 0, training diverged, ")
    for name in ("spec.json", "record.json"):
        (folder / name).write_text(json.dumps(a_record(first)))
    (entry,) = collect([sweep.folder(sweep.presets[0])])
    assert described(entry).startswith("FedIT seed 0: diverged, 0 of 3 rounds")


def a_record(of: Job) -> dict[str, Any]:
    """The record of a run that has done no round."""
    spec = {**of.spec.model_dump(mode="json"), "method": of.spec.settings()}
    return {
        "format": 1,
        "spec": spec,
        "clients": {},
        "status": "running",
        "rounds": [],
        "versions": {},
        "seed": 0,
    }


@pytest.mark.parametrize("names", [("table1", "table3"), ("table3", "table1")])
def test_presets_side_by_side_keep_their_own_trials(names: tuple[str, ...], tmp_path: Path) -> None:
    together = Sweep([find(name) for name in names], "small", tmp_path)
    for name in names:
        alone = Sweep([find(name)], "small", tmp_path)
        for key, trials in alone.tuning.trials.items():
            assert together.tuning.trials[key] == trials
    assert len({one.spec.model.name for one in together.tuning.jobs}) == 2


def test_trials_that_are_not_the_same_may_not_share_a_name(tiny: Path, tmp_path: Path) -> None:
    first, second = tiny_preset(str(tiny)), tiny_preset("minilm")
    with pytest.raises(FedLeaseError, match="table9 has other trials of fedit"):
        Sweep([first, second], "small", tmp_path)


def test_a_run_that_takes_all_cores_or_a_gpu_has_them_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    table1 = find("table1")
    assert Sweep([table1], "small", tmp_path).side_by_side == 16
    assert Sweep([table1], "paper", tmp_path).side_by_side == 1
    assert Sweep([table1], "paper", tmp_path, processes=4).side_by_side == 4
