"""Sweeps: what is run, what is reused, what a kill loses, on a tiny preset."""

from __future__ import annotations

import json
import random
import signal
import time
from importlib.util import module_from_spec, spec_from_file_location
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from runs import begin
from tiny_sweep import TASKS, Silent, stripped, sweep_without_pace, tiny_preset, told

import fedlease
from fedlease.cli.collect import collect
from fedlease.core.errors import FedLeaseError
from fedlease.core.files import read_json
from fedlease.experiments.manifest import read_manifest
from fedlease.experiments.pool import Pool
from fedlease.experiments.sweep import Sweep
from fedlease.experiments.work import KINDS
from fedlease.experiments.worker import Telling, do
from fedlease.report.table import make_table
from fedlease.report.table_formats import FORMATS
from fedlease.training import timings
from fedlease.training.precision import Timings


@pytest.fixture(scope="module")
def swept(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweep, Silent]:
    sweep = Sweep([tiny_preset(str(tiny))], "small", tmp_path_factory.mktemp("swept"))
    silent = Silent()
    sweep.run(silent)
    return sweep, silent


def test_the_machine_is_measured_before_any_process_starts_and_by_none_of_them(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def measured(*_: Any, **__: Any) -> Timings:
        order.append("machine")
        return Timings({"float32 sdpa": 1.0})

    def carried_out(sweep: Sweep, _: Any) -> dict[str, str]:
        order.append("runs")
        timings.place().unlink()  # as if it had not been measured, for want of quiet
        one = sweep.todo()[0]
        costs = dict.fromkeys(product(TASKS, KINDS), 1.0)
        do(tmp_path / "run", one.spec.model_dump(mode="json"), tmp_path, Telling(print, costs), print)
        return {}

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FEDLEASE_MEASURE", "1")
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))
    monkeypatch.setattr("fedlease.training.timings.measure", measured)
    monkeypatch.setattr("fedlease.experiments.sweep.measure", told)
    monkeypatch.setattr("fedlease.experiments.sweep.carry_out", carried_out)
    Sweep([tiny_preset(str(tiny))], "small", tmp_path / "out").run(Silent())
    assert order == ["machine", "runs"]
    assert fedlease.Run(tmp_path / "run").record["status"] == "complete"


@pytest.mark.slow
def test_a_sweep_runs_every_entry_with_the_rate_of_the_best_trial(swept: tuple[Sweep, Silent]) -> None:
    sweep, silent = swept
    manifest = read_manifest(sweep.folder(sweep.presets[0]))
    assert manifest is not None
    assert [(place.row, place.seed) for place in manifest.runs] == [
        (row, seed) for row in ("FedIT", "FedLEASE", "top-1") for seed in (0, 1)
    ]
    assert set(silent.rates) == set(manifest.rates) == {"fedit", "fedlease"}
    for place in manifest.runs:
        record = fedlease.Run(sweep.folder(sweep.presets[0]) / place.folder).record
        assert record["status"] == "complete"
        assert record["seed"] == place.seed
        tuned = manifest.rates["fedit" if place.row == "FedIT" else "fedlease"]
        assert record["spec"]["training"]["learning_rate"] == tuned.chosen
        best = max(score for score in tuned.scores.values() if score is not None)
        assert tuned.scores[f"{tuned.chosen:g}"] == best
        assert not record["spec"]["data"]["held_out"]
    for trial in sweep.tuning.jobs:
        assert fedlease.Run(trial.folder(sweep.store)).record["spec"]["data"]["held_out"]
    assert len(silent.pace.seconds) == len(TASKS) * 4
    assert all(seconds > 0 for seconds in silent.pace.seconds.values())
    whole = sweep.side_by_side * len(TASKS)
    assert silent.measured == [(done, whole) for done in range(whole + 1)]
    assert sweep.left({}) == 0


@pytest.mark.slow
def test_what_is_in_the_store_is_not_run_again(swept: tuple[Sweep, Silent]) -> None:
    sweep, _ = swept
    before = {path: path.stat().st_mtime_ns for path in sweep.store.rglob("record.json")}
    silent = Silent()
    sweep.run(silent)
    assert silent.ended == []
    assert {path: path.stat().st_mtime_ns for path in sweep.store.rglob("record.json")} == before


@pytest.mark.slow
def test_runs_share_the_initial_phase_and_are_the_same_without_it(
    swept: tuple[Sweep, Silent], tmp_path: Path
) -> None:
    sweep, _ = swept
    trials = {one.name for one in sweep.tuning.jobs}
    found = [one for one in sweep.known() if one.name not in trials]
    runs = {one.name: one for one in found if one.spec.method["name"] == "fedlease"}
    reused = 0.0
    for name, one in runs.items():
        alone = fedlease.run(one.spec, tmp_path / name)
        assert stripped(alone.folder) == stripped(one.folder(sweep.store))
        record = fedlease.Run(one.folder(sweep.store)).record
        reused += sum(entry["seconds"]["reused"] for entry in record["rounds"])
    assert reused > 0


@pytest.mark.slow
@pytest.mark.timeout(1200)  # some forty starts of a process
def test_a_sweep_killed_ten_times_ends_with_the_same_table(
    swept: tuple[Sweep, Silent], tiny: Path, tmp_path: Path
) -> None:
    """A sweep that is sent SIGKILL whenever its runs have done a round, at moments that chance picks."""
    sweep, _ = swept
    dice, killed = random.Random(0), 0
    for kill in range(11):
        before, deadline = _rounds(tmp_path), time.monotonic() + 90
        process = begin(sweep_without_pace, str(tiny), tmp_path)
        if kill < 10:
            while _rounds(tmp_path) <= before and process.is_alive() and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(dice.uniform(0, 0.1))
            process.kill()
        process.join(600)
        killed += process.exitcode == -signal.SIGKILL
    assert process.exitcode == 0
    assert killed == 10
    preset = sweep.presets[0]
    first, again = (read_manifest(folder) for folder in (sweep.folder(preset), tmp_path / "table9-small"))
    assert first == again
    assert first is not None
    for place in first.runs:
        name = Path(place.folder).name
        assert stripped(tmp_path / "store" / name) == stripped(sweep.store / name)
    folders = (sweep.folder(preset), tmp_path / "table9-small")
    tables = [FORMATS["csv"].write(make_table(collect([folder]), None, "")) for folder in folders]
    assert tables[0] == tables[1]


def _rounds(out: Path) -> int:
    """Rounds that the runs of a sweep have done so far."""
    return sum(len(read_json(path)["rounds"]) for path in (out / "store").glob("*/record.json"))


@pytest.mark.slow
def test_a_sweep_of_fewer_seeds_leaves_the_others_in_the_manifest(swept: tuple[Sweep, Silent]) -> None:
    sweep, _ = swept
    preset = sweep.presets[0]
    before = read_manifest(sweep.folder(preset))
    Sweep(sweep.presets, "small", sweep.out, (0,)).write_manifests()
    assert read_manifest(sweep.folder(preset)) == before


@pytest.mark.slow
def test_runs_of_other_rows_are_not_taken_for_these(swept: tuple[Sweep, Silent]) -> None:
    sweep, _ = swept
    path = sweep.known()[0].folder(sweep.store) / "record.json"
    whole = path.read_text()
    record = json.loads(whole)
    record["clients"]["tone-0"]["rows_hash"] = "0"
    path.write_text(json.dumps(record))
    with pytest.raises(FedLeaseError, match="was made on other rows than those that are here now"):
        sweep.run(Silent())
    path.write_text(whole)


@pytest.mark.slow
def test_published_runs_make_the_same_table_and_are_not_run_again(
    swept: tuple[Sweep, Silent], tiny: Path, tmp_path: Path
) -> None:
    sweep, _ = swept
    assert publishing().publish(sweep.out, tmp_path) == len(sweep.known())
    again = Sweep(sweep.presets, "small", tmp_path)
    assert again.todo() == again.foreseen() == []
    folders = [out.folder(sweep.presets[0]) for out in (sweep, again)]
    tables = [FORMATS["csv"].write(make_table(collect([folder]), None, "")) for folder in folders]
    assert tables[0] == tables[1]
    found = [read_json(path) for path in (tmp_path / "store").rglob("*.json")]
    assert len(found) == 2 * len(sweep.known())
    assert {one.pop("spec")["model"]["name"] for one in found} == {str(tiny)}  # as it was asked for
    assert not any('"/' in json.dumps(one) for one in found)


def publishing() -> Any:
    """benchmarks/publish.py, which is no part of the package."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "publish.py"
    spec = spec_from_file_location("publish", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_process_that_dies_at_once_is_an_end_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with Pool(tmp_path) as pool:
        for number in range(5):
            pool.start(f"x{number}", {"spec": {}})
        ends = []
        while pool.running:
            event = pool.wait(1.0)
            if event is not None and event.code is not None:
                ends.append(event.code)
    assert ends == [1] * 5
    monkeypatch.setattr("sys.executable", str(tmp_path / "nowhere"))
    with Pool(tmp_path) as pool, pytest.raises(FedLeaseError, match="cannot start a process"):
        pool.start("x", {})
