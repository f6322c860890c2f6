"""The command ``fedlease table``: folders in, a table out, failures in one line."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import fedlease
from fedlease.core.files import read_json, write_json
from fedlease.experiments.manifest import Manifest, Place, write_manifest
from fedlease.experiments.store import FORMAT


@pytest.fixture
def table(command: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Call ``fedlease table`` beside the runs."""
    monkeypatch.chdir(tmp_path)
    return partial(command, "table")


def make_run(folder: Path, method: str, scores: Sequence[float], seed: int = 0, **changes: Any) -> None:
    """Write the folder of a run of three clients with one round."""
    clients = {f"c-{i}": {"group": "c", "rows_hash": f"{i} {seed}"} for i in range(3)}
    metrics = {f"c-{i}": {"accuracy": score} for i, score in enumerate(scores)}
    folder.mkdir(parents=True)
    write_json(folder / "spec.json", {"format": FORMAT})
    record = {
        "format": FORMAT,
        "status": "complete",
        "seed": seed,
        "spec": {"method": {"name": method}, "rounds": 1, "clients": [{"name": "c"}]},
        "clients": clients,
        "versions": {"fedlease": fedlease.__version__},
        "rounds": [{"round": 1, "metrics": metrics}],
    }
    write_json(folder / "record.json", {**record, **changes})


def make_sweep(root: Path, *, title: str = "Some methods") -> None:
    """Write a sweep of two rows and two seeds, one of whose runs was never begun."""
    for seed in range(2):
        make_run(root / "store" / f"a{seed}", "fedit", [0.5, 0.5, 0.6], seed)
    make_run(root / "store" / "b0", "fedlease", [0.6, 0.7, 0.6])
    runs = [Place("FedIT", "", seed, f"../store/a{seed}") for seed in range(2)]
    runs += [Place("FedLEASE", "", seed, f"../store/b{seed}") for seed in range(2)]
    write_manifest(root / "sweep", Manifest("table1", "small", title, runs))


def test_a_sweep_becomes_a_table(table: Any, tmp_path: Path) -> None:
    make_sweep(tmp_path)
    code, shown, complaint = table("sweep")
    assert (code, complaint) == (0, "")
    assert shown.startswith("Some methods\n")
    assert "FedLEASE lacks 1" in shown
    assert "Not run yet: FedLEASE seed 1, store/b1." in shown
    assert table("sweep")[1] == shown


@pytest.mark.parametrize("name", ["text", "markdown", "latex", "csv"])
def test_a_file_holds_what_is_printed(table: Any, tmp_path: Path, name: str) -> None:
    make_sweep(tmp_path)
    shown = table("sweep", "--format", name)[1]
    assert table("sweep", "--format", name, "--out", "made")[:2] == (0, "")
    assert (tmp_path / "made").read_text() == shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "store", "sweep"]


def test_csv_alone_on_the_output_and_notes_beside_it(table: Any, tmp_path: Path) -> None:
    make_sweep(tmp_path)
    _, shown, complaint = table("sweep", "--format", "csv", "--against", "fedlease")
    lines = list(csv.DictReader(io.StringIO(shown)))
    (difference,) = [x for x in lines if x["kind"] == "difference" and x["row"] == "FedIT"]
    assert float(difference["mean"]) == pytest.approx(-10)
    assert (difference["against"], difference["pairs"], difference["seeds"]) == ("FedLEASE", "3", "1")
    assert "Not run yet: FedLEASE seed 1" in complaint


def test_runs_without_a_sweep(table: Any, tmp_path: Path) -> None:
    make_run(tmp_path / "a", "fedit", [0.5, 0.5, 0.6])
    make_run(tmp_path / "b", "ffa_lora", [0.5, 0.6, 0.9])
    make_run(tmp_path / "c", "ffa_lora", [0.5, 0.6, 0.9], 1, status="running")
    code, shown, _ = table("a", "b", "c", "--format", "markdown")
    assert code == 0
    assert "| ffa_lora | - | **66.67** | **66.67** | **+13.33** |" in shown
    assert "Left out, not complete: ffa_lora seed 1: running, 1 of 1 rounds, c." in shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere",), "nowhere is not the folder of a run"),
        (("a", "--format", "pdf"), "there is no such format; there are: text, markdown, latex, csv"),
        (("a", "b", "--against", "c"), "--against c: there is no such row; there are: fedit, ffa_lora"),
        (("stopped",), "no run is complete (fedit seed 0: running, 1 of 1 rounds, stopped)"),
        (("later",), "sweep.json has format 9; fedlease"),
        (("empty",), "no run has a record yet"),
        (("a", "other"), "a and other are two different runs of fedit, seed 0"),
        (("a", "--out", "no/where"), "cannot write no/where"),
    ],
)
def test_failures_are_one_line(table: Any, tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    make_run(tmp_path / "a", "fedit", [0.5, 0.5, 0.6])
    make_run(tmp_path / "b", "ffa_lora", [0.5, 0.6, 0.9])
    make_run(tmp_path / "other", "fedit", [0.5, 0.5, 0.5])
    make_run(tmp_path / "stopped", "fedit", [0.5, 0.5, 0.6], status="running")
    write_manifest(tmp_path / "later", Manifest("table1", "small", "", ()))
    changed = {**read_json(tmp_path / "later" / "sweep.json"), "format": 9}
    write_json(tmp_path / "later" / "sweep.json", changed)
    write_manifest(tmp_path / "empty", Manifest("table1", "small", "", (Place("a", "", 0, "gone"),)))
    code, shown, complaint = table(*arguments)
    assert (code, shown, complaint.count("\n")) == (2, "", 1)
    assert says in complaint


def test_what_is_no_run_is_left_out_of_many(table: Any, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    make_run(runs / "a", "fedit", [0.5, 0.5, 0.6])
    make_run(runs / "demo" / "b", "ffa_lora", [0.5, 0.6, 0.9])
    (runs / "begun").mkdir()
    write_json(runs / "begun" / "spec.json", {"format": FORMAT})
    write_json(runs / "allocation.json", {})
    every = sorted(path.relative_to(tmp_path) for path in runs.iterdir())
    told = (
        "note: left out: runs/allocation.json is not the folder of a run or of a sweep\n"
        "note: left out: runs/begun has no record.json: the run was stopped before its first round\n"
        "note: left out: runs/demo is not the folder of a run or of a sweep, but holds some: "
        "name runs/demo/b\n"
    )
    code, shown, complaint = table(*every)
    assert (code, complaint) == (0, told)
    assert shown == table("runs/a")[1]
    code, _, complaint = table("runs/allocation.json", "runs/demo")
    assert (code, complaint.count("\n")) == (2, 1)
    assert complaint.endswith("but holds some: name runs/demo/b\n")
    code, _, complaint = table("runs/a", "runs/typo")
    assert code == 2
    assert "runs/typo is not the folder of a run" in complaint


def test_real_records_have_all_a_table_asks(table: Any, spec_of: Any, tmp_path: Path) -> None:
    for name in ("fedit", "fedlease"):
        fedlease.run(spec_of(method={"name": name, "rank": 2}, rounds=4), tmp_path / name)
    record = read_json(tmp_path / "fedlease" / "record.json")
    share = 100 * sum(record["parameters"]["trained"].values()) / record["parameters"]["base"]
    code, shown, _ = table("fedit", "fedlease")
    assert code == 0
    assert f"{share:.4f} " in shown
    assert "experts" in shown
    assert "8 pairs" not in shown
    assert "4 pairs of 1 seed" in shown
