"""Sweeps: what is run, what is reused, what a kill loses, on a tiny preset."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import fedlease
from fedlease.core.errors import FedLeaseError
from fedlease.experiments.jobs import identity, job
from fedlease.experiments.manifest import read_manifest
from fedlease.experiments.pool import Pool
from fedlease.experiments.prepare import read_rows, settle
from fedlease.experiments.presets import find, presets
from fedlease.experiments.presets.glue import SMALL
from fedlease.experiments.presets.kinds import Cell, Preset, Size
from fedlease.experiments.spec import make_spec
from fedlease.experiments.store import Store
from fedlease.experiments.sweep import Sweep
from fedlease.experiments.work import work

TASKS = ("tone", "answers")


def tiny_preset(model: str) -> Preset:
    """Three methods on generated texts; two of them share the initial phase."""

    def clients(count: int) -> list[dict[str, Any]]:
        return [{"name": t, "data": t, "count": count, "train_rows": 12, "test_rows": 6} for t in TASKS]

    base = {"model": {"name": model, "threads": 1, "precision": "float32"}, "rounds": 3}
    trial = {"rounds": 2, "seed": 7, "data": {"held_out": True}}
    size = Size("small", base, 12, 6, 2, (0, 1), (1e-3, 1e-2), trial, 2)
    own = {"name": "fedlease", "rank": 2, "warmup_rounds": 1}
    rows = {"FedIT": {"name": "fedit", "rank": 4}, "FedLEASE": own, "top-1": {**own, "top_k": 1}}
    return Preset(
        "table9",
        "A tiny table",
        lambda size: tuple(
            Cell(row, {**base, "clients": clients(2), "method": m}, m["name"]) for row, m in rows.items()
        ),
        lambda size: {
            m["name"]: {**base, **trial, "clients": clients(2), "method": m} for m in rows.values()
        },
        {"small": size},
    )


class Silent:
    """A watcher that keeps what it was told."""

    def __init__(self) -> None:
        self.rates: dict[str, Any] = {}
        self.ended: list[str] = []

    def begin(self, sweep: Sweep) -> None:
        self.pace = sweep.pace

    def event(self, event: Any) -> None:
        if event.code is not None:
            self.ended.append(event.name)

    def chosen(self, key: str, tuned: Any) -> None:
        self.rates[key] = tuned

    def left(self, seconds: float) -> None:
        self.seconds = seconds


def stripped(folder: Path) -> str:
    """A record without its times."""
    record = json.loads((folder / "record.json").read_text())
    for entry in record["rounds"]:
        entry.pop("seconds")
    record.pop("sessions")
    return json.dumps(record)


@pytest.fixture(scope="module")
def swept(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweep, Silent]:
    sweep = Sweep([tiny_preset(str(tiny))], "small", tmp_path_factory.mktemp("swept"))
    silent = Silent()
    sweep.run(silent)
    return sweep, silent


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


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_sweep import Silent, tiny_preset
from fedlease.experiments.sweep import Sweep
Sweep([tiny_preset(sys.argv[1])], "small", Path(sys.argv[2])).run(Silent())
"""


@pytest.mark.slow
def test_a_sweep_killed_again_and_again_ends_with_the_same_table(
    swept: tuple[Sweep, Silent], tiny: Path, tmp_path: Path
) -> None:
    sweep, _ = swept
    dice = random.Random(0)
    arguments = [sys.executable, "-c", KILLED, str(tiny), str(tmp_path), str(Path(__file__).parent)]
    for kill in range(11):
        process = subprocess.Popen(arguments, env={**os.environ, "OMP_NUM_THREADS": "1"})
        if kill < 10:
            time.sleep(dice.uniform(4, 8))
            process.send_signal(signal.SIGKILL)
            process.wait()
        else:
            assert process.wait(300) == 0
    preset = sweep.presets[0]
    first, again = (read_manifest(folder) for folder in (sweep.folder(preset), tmp_path / "table9-small"))
    assert first == again
    assert first is not None
    for place in first.runs:
        name = Path(place.folder).name
        assert stripped(tmp_path / "store" / name) == stripped(sweep.store / name)


@pytest.mark.parametrize("name", ["record.json", "spec.json"])
def test_a_damaged_record_is_one_line(name: str, tmp_path: Path) -> None:
    for file in ("spec.json", "record.json"):
        (tmp_path / file).write_text('{"format": 1}')
    with pytest.raises(FedLeaseError, match=rf"{name} is damaged: it has no spec; remove the run"):
        getattr(Store(tmp_path), name.removesuffix(".json").replace("spec", "resolved"))()


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


def test_there_are_rows_enough_for_every_preset(glue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLEASE_DATA", str(glue))
    dealt = set()
    for preset in presets().values():
        for name in ("small", "paper") if preset.name != "table3" else ():  # it is not of GLUE
            size = preset.size(name)
            specs = [job(cell.spec, 1e-3, 0).spec for cell in preset.cells(size)]
            specs += [job(tried, 1e-3).spec for tried in preset.trials(size).values()]
            for spec in specs:
                key = spec.model_dump_json(include={"clients", "data"})
                if key not in dealt:
                    dealt.add(key)
                    assert len(read_rows(spec, settle(spec, Path.cwd()))) == len(spec.ids)
    assert len(dealt) > 10


def test_every_preset_can_be_built_in_both_sizes() -> None:
    assert list(presets())[:2] == ["table1", "table2"]
    for preset in presets().values():
        for name in ("small", "paper"):
            size = preset.size(name)
            cells, tried = preset.cells(size), preset.trials(size)
            assert len({(cell.row, cell.section) for cell in cells}) == len(cells)
            for cell in cells:
                assert work(job(cell.spec, 1e-3, 0).spec).trained > 0
                assert job(tried[cell.rate], 1e-3).spec.data.held_out


def test_comparable_workload() -> None:
    for cell in find("table1").cells(SMALL):
        method = cell.spec["method"]
        assert method["rank"] == (4 if method["name"] in ("feddpa", "fedlease", "fedlease_paper") else 8)


def test_unknown_presets_and_sizes_list_what_there_is() -> None:
    with pytest.raises(FedLeaseError, match="no preset 'table0'; there are: table1, table2"):
        find("table0")
    with pytest.raises(FedLeaseError, match="Figure 5 of the paper is a drawing"):
        find("fig5")
    with pytest.raises(FedLeaseError, match="table1 has no size 'huge'; it has: small, paper"):
        Sweep([find("table1")], "huge", Path("x"))


def test_missing_data_says_where_to_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDLEASE_DATA", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        FedLeaseError, match=r"name a folder in FEDLEASE_DATA that holds glue/TASK/train\.jsonl"
    ):
        Sweep([find("table1")], "small", tmp_path).run(Silent())
    assert not list(tmp_path.iterdir())


def test_a_spec_is_known_by_what_its_result_depends_on(tiny: Path) -> None:
    cell = tiny_preset(str(tiny)).cells(SMALL)[0]
    spec = job(cell.spec, 1e-3, 0).spec
    content = spec.model_dump(mode="json")
    elsewhere = make_spec({**content, "name": "other", "data": {**content["data"], "root": "x"}})
    assert identity(elsewhere) == identity(spec)
    explicit = make_spec({**content, "method": spec.settings()})
    assert identity(explicit) == identity(spec)
    plain = make_spec({**content, "method": {"name": "fedlease_paper"}})
    assert identity(plain) != identity(make_spec({**content, "method": {"name": "fedlease"}}))
    longer = make_spec({**content, "training": {**content["training"], "pool": 9}})
    assert identity(longer) != identity(spec)
    assert identity(job(cell.spec, 2e-3, 0).spec) != identity(spec)
    assert identity(job(cell.spec, 1e-3, 1).spec) != identity(spec)


def test_a_record_of_another_version_is_refused_by_name(tiny: Path, tmp_path: Path) -> None:
    one = job(tiny_preset(str(tiny)).cells(SMALL)[0].spec, 1e-3, 0)
    run = fedlease.run(one.spec, one.folder(tmp_path))
    record = run.record
    record["versions"]["fedlease"] = "0.0.1"
    (run.folder / "record.json").write_text(json.dumps(record))
    with pytest.raises(FedLeaseError, match=r"record\.json is from fedlease 0\.0\.1"):
        one.done(tmp_path)
    record["versions"]["fedlease"] = fedlease.__version__
    record["spec"]["training"]["pool"] = 9  # as if the default had been another one then
    (run.folder / "record.json").write_text(json.dumps(record))
    with pytest.raises(FedLeaseError, match=r"was made with another training\.pool"):
        one.done(tmp_path)
    record["spec"]["training"].pop("pool")  # as if there had been no such setting then
    (run.folder / "record.json").write_text(json.dumps(record))
    assert one.done(tmp_path)
