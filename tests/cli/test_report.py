"""``fedlease report``: what it writes, what it says, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from page_runs import entry
from page_tree import check

import fedlease
from fedlease.cli import main
from fedlease.core.files import read_json, write_json
from fedlease.experiments.manifest import Manifest, Place, write_manifest
from fedlease.report.records import Entry

SMALL = {"red": 3, "blue": 2}


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Call ``fedlease report`` in an empty folder; return exit code, what it printed, what it complained."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["fedlease", "report", *map(str, arguments)])
        with pytest.raises(SystemExit) as raised:
            main()
        shown = capsys.readouterr()
        return int(raised.value.code or 0), shown.out, shown.err

    return call


def save(run: Entry, folder: Path) -> Path:
    folder.mkdir(parents=True)
    given = {key: run.record[key] for key in ("format", "spec", "clients")}
    write_json(folder / "spec.json", given)
    write_json(folder / "record.json", run.record)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return save(entry(tasks=SMALL), tmp_path / "fedlease")


def test_one_file_is_written_and_again_replaced(command: Any, run: Path) -> None:
    code, shown, _ = command(run)
    assert code == 0
    assert "report of 1 run: report.html (" in shown
    assert [path.name for path in Path().iterdir()] == ["report.html"]
    check(Path("report.html").read_text(encoding="utf-8"))
    Path("report.html").write_bytes(Path("report.html").read_bytes()[:200])  # an older one, of another run
    assert command(run)[0] == 0
    check(Path("report.html").read_text(encoding="utf-8"))


def test_a_file_that_is_no_report_is_replaced_only_when_told(command: Any, run: Path) -> None:
    Path("report.html").write_text("mine")
    code, _, complaint = command(run)
    assert (code, complaint.count("\n")) == (2, 1)
    assert "report.html is there already and is no report" in complaint
    assert Path("report.html").read_text() == "mine"
    assert command(run, "--force")[0] == 0
    assert Path("report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_folder_and_a_run_named_twice(command: Any, run: Path) -> None:
    Path("folder").mkdir()
    code, shown, _ = command(run, run / ".." / "fedlease", "--out", "folder")
    assert (code, "report of 1 run" in shown) == (0, True)
    assert Path("folder/report.html").is_file()


def test_a_sweep_is_its_runs_and_its_title(command: Any, tmp_path: Path) -> None:
    places = []
    for seed in (0, 1):
        save(entry("fedit", tasks=SMALL, seed=seed), tmp_path / "sweep" / f"run{seed}")
        places.append(Place("FedIT", "", seed, f"run{seed}"))
    places.append(Place("not begun", "", 0, "nowhere"))
    write_manifest(tmp_path / "sweep", Manifest("table1", "small", "A table of tests", places))
    code, shown, _ = command(tmp_path / "sweep", "--out", "sweep.html")
    assert code == 0
    assert "note: not begun: not begun seed 0" in shown
    root = check(Path("sweep.html").read_text(encoding="utf-8"))
    assert root.one("h1").text == "A table of tests"
    assert "FedIT, seed 1" in root.by_id("runs").text
    assert "not begun seed 0" in root.by_id("missing").text


def test_a_run_that_goes_on_is_shown_as_far_as_it_came(command: Any, tmp_path: Path) -> None:
    young = save(entry(tasks=SMALL, status="running"), tmp_path / "young")
    code, shown, _ = command(young)
    assert code == 0
    assert "note: not complete, shown as far as it came: fedlease seed 0: running, 3 of 3 rounds" in shown
    assert "Unfinished." in Path("report.html").read_text(encoding="utf-8")


def _other_format(folder: Path) -> None:
    write_json(folder / "record.json", {**read_json(folder / "record.json"), "format": 99})


def _cut(folder: Path) -> None:
    whole = (folder / "record.json").read_bytes()
    (folder / "record.json").write_bytes(whole[: len(whole) // 2])


def _without_linkage(folder: Path) -> None:
    record = read_json(folder / "record.json")
    del record["allocation"]["linkage"]
    write_json(folder / "record.json", record)


def _without_name(folder: Path) -> None:
    record = read_json(folder / "record.json")
    del record["spec"]["name"]
    write_json(folder / "record.json", record)


def _no_round(folder: Path) -> None:
    (folder / "record.json").unlink()


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (_other_format, "record.json has format 99; fedlease"),
        (_cut, "record.json is not valid JSON"),
        (_without_linkage, "the record is damaged: KeyError 'linkage'"),
        (_without_name, "the record is damaged: KeyError 'name'"),
        (_no_round, "was stopped before its first round"),
    ],
)
def test_what_is_damaged_or_of_another_version_is_refused(
    command: Any, run: Path, harm: Callable[[Path], None], says: str
) -> None:
    harm(run)
    code, _, complaint = command(run)
    assert (code, complaint.count("\n")) == (2, 1)
    assert says in complaint
    assert str(run) in complaint
    assert not list(Path().iterdir())


def test_places_that_cannot_be(command: Any, run: Path, tmp_path: Path) -> None:
    assert "cannot write no/such/report.html" in command(run, "--out", "no/such/report.html")[2]
    assert "not the folder of a run" in command(tmp_path / "nowhere")[2]
    write_manifest(tmp_path, Manifest("table1", "small", "", [Place("FedIT", "", 0, "nowhere")]))
    assert "no run has a record yet (FedIT seed 0" in command(tmp_path)[2]


def test_what_is_no_run_is_left_out_of_many(command: Any, run: Path) -> None:
    (run.parent / "notes.json").write_text("{}")
    code, shown, complaint = command(run.parent / "notes.json", run, run.parent)
    assert code == 0
    assert "report of 1 run: " in shown
    assert complaint.splitlines() == [
        f"note: left out: {run.parent / 'notes.json'} is not the folder of a run or of a sweep",
        f"note: left out: {run.parent} is not the folder of a run or of a sweep, but holds some: name {run}",
    ]


def test_runs_that_were_made(command: Any, spec_of: Any, tmp_path: Path) -> None:
    mixture = {"name": "fedlease", "rank": 2, "experts": 2, "warmup_rounds": 1}
    for name, method in {
        "fedlease": mixture,
        "ifca": {"name": "ifca_lora", "rank": 2, "clusters": 2},
    }.items():
        fedlease.run(spec_of(method=method, rounds=2), tmp_path / "made" / name)
    assert command(*sorted((tmp_path / "made").iterdir()))[0] == 0
    root = check(Path("report.html").read_text(encoding="utf-8"))
    text = root.by_id("entropy").text
    assert "Entropy of a token's weights" in text
    assert "older version" not in text
