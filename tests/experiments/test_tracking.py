"""Trackers are told what the record tells, whatever happens to them or to the run."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from runs import Killed, Make, files
from tiny_sweep import stripped
from tracked import Scalars, needs, same, told

import fedlease
from fedlease.core.errors import FedLeaseError
from fedlease.experiments.tracking import follow, kinds
from fedlease.experiments.tracking.numbers import allocated, hyperparameters, routed, values


def events(folder: Path) -> Scalars:
    """What TensorBoard reads from a run's folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder / "trackers" / "tensorboard"), size_guidance={"scalars": 0})
    read.Reload()
    found: Scalars = {}
    for name in read.Tags()["scalars"]:
        steps = [(event.step, event.value) for event in read.Scalars(name)]
        assert len(dict(steps)) == len(steps), f"{name} is told twice of a round"
        found[name] = dict(steps)
    return found


def test_numbers_of_a_round_by_hand() -> None:
    entry = {
        "round": 3,
        "metrics": {"a": {"accuracy": 0.5}, "b": {"accuracy": 0.75}, "c": {}},
        "loss": {"a": 0.25, "b": 0.5},
        "bytes": {"up": {"A": 10, "B": 20}, "down": {}, "score": {"A": 1}},
        "seconds": {"total": 4.0, "train": 3.0},
        "rows": {"train": 8, "score": 4},
        "left_out": [{"client": "c", "task": "train", "reason": "is late"}] * 2,
    }
    assert values(entry) == {
        "mean/accuracy": 0.625,
        "worst/accuracy": 0.5,
        "best/accuracy": 0.75,
        "accuracy/a": 0.5,
        "accuracy/b": 0.75,
        "mean/loss": 0.375,
        "loss/a": 0.25,
        "loss/b": 0.5,
        "bytes/up": 30,
        "bytes/up_A": 10,
        "bytes/up_B": 20,
        "bytes/down": 0,
        "bytes/score": 1,
        "bytes/score_A": 1,
        "seconds/total": 4.0,
        "seconds/train": 3.0,
        "rows/train": 8,
        "rows/score": 4,
        "clients/left_out": 1,
    }


def test_numbers_of_routers_and_settings_by_hand() -> None:
    module = {"experts": 2.0, "weights": [0.5, 0.5], "entropy": 1.0}
    record = {
        "routing": {"a": {"q": module, "v": {**module, "experts": 1.0, "entropy": 0.0}}, "b": {"q": module}}
    }
    assert routed(record) == {
        "mean/experts_used": 1.75,
        "experts_used/a": 1.5,
        "experts_used/b": 2.0,
        "mean/router_entropy": 0.75,
        "router_entropy/a": 0.5,
        "router_entropy/b": 1.0,
    }
    assert routed({}) == allocated({}) == {}
    assert allocated({"allocation": {"num_experts": 4}}) == {"experts/number": 4}
    spec = {
        "rounds": 2,
        "method": {"name": "fedit", "rank": 8},
        "data": {"root": None},
        "clients": [{"name": "x"}],
    }
    found = hyperparameters({"spec": spec, "plan": {"threads": 1}, "clients": {"x-0": {}, "x-1": {}}})
    assert found == {
        "rounds": 2,
        "method.name": "fedit",
        "method.rank": 8,
        "plan.threads": 1,
        "clients": 2,
        "groups": '["x"]',
    }


@needs("tensorboard")
def test_tensorboard_is_told_what_the_record_tells_and_changes_nothing(spec_of: Make, tmp_path: Path) -> None:
    plain = fedlease.run(spec_of(), tmp_path / "plain")
    run = fedlease.run(spec_of(), tmp_path / "run", track=["tensorboard"])
    assert stripped(run.folder) == stripped(plain.folder)
    assert files(run.folder) == files(plain.folder)
    found = events(run.folder)
    same(found, told(run.record), 1e-6)
    assert {"mean/accuracy", "accuracy/tone-0", "loss/tone-1", "bytes/up_B", "seconds/total"} < found.keys()
    assert {"experts/number", "mean/router_entropy"} < found.keys()
    (settings,) = (run.folder / "trackers" / "tensorboard").glob("*/hparams.yml")
    assert "method.rank: 2" in settings.read_text()


@needs("tensorboard")
@pytest.mark.parametrize("lost", [0, 1], ids=["after it was told", "before that was noted down"])
def test_a_run_that_is_killed_goes_on_in_the_same_place(lost: int, spec_of: Make, tmp_path: Path) -> None:
    class Dying:
        def begin(self, spec: Any, federation: Any, done: int) -> None: ...
        def step(self, step: Any) -> None:
            if step.round == 3:
                raise Killed

        def round(self, entry: dict[str, Any]) -> None: ...
        def end(self, seconds: float) -> None: ...

    folder = tmp_path / "run"
    with pytest.raises(Killed):
        fedlease.run(spec_of(rounds=4), folder, track=["tensorboard"], observer=Dying())
    place = folder / "trackers" / "tensorboard.json"
    told_of = json.loads(place.read_text())
    assert told_of["logged"] == 2
    place.write_text(json.dumps({**told_of, "logged": 2 - lost}))
    run = fedlease.resume(folder)
    found, wanted = events(folder), told(run.record)
    for scalars in (found, wanted):  # what is told late has no number of experts of then
        del scalars["experts/number"]
    same(found, wanted, 1e-6)
    assert len(list((folder / "trackers" / "tensorboard").glob("*/hparams.yml"))) == 1
    before = _written(folder)
    fedlease.resume(folder)
    assert _written(folder) == before


def _written(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"}


@needs("tensorboard")
def test_a_finished_run_can_be_told_later(spec_of: Make, tmp_path: Path) -> None:
    run = fedlease.run(spec_of(rounds=2), tmp_path / "run")
    record = (run.folder / "record.json").read_bytes()
    fedlease.resume(run.folder, track=["tensorboard"])
    found, wanted = events(run.folder), told(run.record)
    assert found.keys() == wanted.keys()
    assert found["mean/accuracy"].keys() == {1, 2}
    assert (run.folder / "record.json").read_bytes() == record


@needs("tensorboard")
def test_a_tracker_that_fails_is_told_in_a_line_and_the_run_goes_on(
    spec_of: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate.tracking import TensorBoardTracker

    def full(self: Any, values: Any, step: int | None = None, **options: Any) -> None:
        raise OSError("no space left\non device")

    monkeypatch.setattr(TensorBoardTracker, "log", full)
    run = fedlease.run(spec_of(rounds=2), tmp_path / "run", track=["tensorboard"])
    assert run.record["status"] == "complete"
    said = [line for line in capsys.readouterr().err.splitlines() if "tensorboard" in line]
    why = "OSError: no space left on device"
    assert said == [f"fedlease: tensorboard failed, and the run goes on without it: {why}"]


@needs("tensorboard")
def test_a_tracker_that_hangs_holds_nothing_up(
    spec_of: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate.tracking import TensorBoardTracker

    free = threading.Event()
    monkeypatch.setattr(TensorBoardTracker, "start", lambda self: free.wait(60))
    monkeypatch.setattr(follow, "PATIENCE", 0.1)
    try:
        run = fedlease.run(
            spec_of(rounds=1, method={"name": "fedit"}), tmp_path / "run", track=["tensorboard"]
        )
    finally:
        free.set()
    assert run.record["status"] == "complete"
    assert "tensorboard does not answer: not all it was told is there" in capsys.readouterr().err


def test_a_tracker_that_is_unknown_or_not_installed_is_told_before_anything_is_written(
    spec_of: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FedLeaseError, match=r"no tracker 'ticker'; there are: tensorboard, wandb, mlflow"):
        fedlease.run(spec_of(), tmp_path / "run", track=["ticker"])
    monkeypatch.setattr(kinds, "find_spec", lambda name: None)
    with pytest.raises(FedLeaseError, match=r"wandb is not installed: pip install 'fedlease\[wandb\]'"):
        fedlease.run(spec_of(), tmp_path / "run", track=["wandb"])
    assert not (tmp_path / "run").exists()
    with pytest.raises(KeyboardInterrupt):
        fedlease.run(spec_of(rounds=1, method={"name": "fedit"}), tmp_path / "run", observer=_Stopping())
    (tmp_path / "run" / "trackers").mkdir()
    place = {"format": 1, "logged": 0, "run": None, "begun": True, "complete": False}
    (tmp_path / "run" / "trackers" / "wandb.json").write_text(json.dumps(place))
    assert fedlease.resume(tmp_path / "run").record["status"] == "complete"
    assert "wandb does not follow the run: wandb is not installed" in capsys.readouterr().err


class _Stopping:
    def begin(self, spec: Any, federation: Any, done: int) -> None:
        raise KeyboardInterrupt
