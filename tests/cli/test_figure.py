"""``fedlease figure``: what it writes, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from made import FEDLEASE, allocation, routing, run

import fedlease
from fedlease.core.files import write_json
from fedlease.experiments.manifest import Manifest, Place, write_manifest
from fedlease.experiments.store import FORMAT
from fedlease.report.records import Entry


@pytest.fixture
def figure(command: Any, here: Path) -> Callable[..., Any]:
    """Call ``fedlease figure`` in an empty folder."""
    return partial(command, "figure")


def save(entry: Entry, folder: Path) -> Path:
    folder.mkdir(parents=True)
    write_json(folder / "spec.json", {"format": FORMAT})
    versions = {"fedlease": fedlease.__version__}
    write_json(folder / "record.json", {"format": FORMAT, "versions": versions, **entry.record})
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def fedlease_run(tmp_path: Path) -> Path:
    return save(
        run("fedlease", method=FEDLEASE, allocation=allocation(), routing=routing()), tmp_path / "fedlease"
    )


def sweep(folder: Path, entries: Sequence[Entry]) -> Path:
    places = []
    for index, entry in enumerate(entries):
        save(entry, folder / f"run{index}")
        places.append(Place(entry.row, entry.section, entry.record["seed"], f"run{index}"))
    places.append(Place("not begun", "", 0, "nowhere"))
    write_manifest(folder, Manifest("fig2", "small", "two scenarios", places))
    return folder


def test_a_sweep_becomes_a_png_and_an_svg(figure: Any, tmp_path: Path) -> None:
    entries = [
        run(row, section, tasks=tasks, seed=seed)
        for row in ("FedIT", "FedLoRA-MoE")
        for section, tasks in (("Scenario 1", {"sst2": 2, "qnli": 2}), ("Scenario 2", {"sst2": 4}))
        for seed in (0, 1)
    ]
    code, shown, _ = figure("fig2", sweep(tmp_path / "sweep", entries))
    assert code == 0
    assert "fig2.png, fig2.svg" in shown
    assert names(Path()) == ["fig2.png", "fig2.svg"]
    assert Path("fig2.png").read_bytes().startswith(b"\x89PNG")


def test_all_parts_that_the_run_allows(figure: Any, fedlease_run: Path) -> None:
    code, shown, _ = figure("6", fedlease_run)
    assert code == 0
    assert names(Path()) == ["fig6c.png", "fig6c.svg"]
    assert "note: figure 6a: runs of fedlease" in shown
    assert figure("7", fedlease_run, "--out", "chosen.png")[0] == 0
    assert [name for name in names(Path()) if name.startswith("chosen")] == [
        f"chosen{letter}.{kind}" for letter in "abc" for kind in ("png", "svg")
    ]


def test_where_it_goes(figure: Any, fedlease_run: Path) -> None:
    Path("folder").mkdir()
    for out, stem in (("one.svg", "one"), ("two", "two"), ("v1.2", "v1.2"), ("folder", "folder/fig7a")):
        assert figure("7a", fedlease_run, "--out", out)[0] == 0
        assert Path(f"{stem}.png").is_file()
        assert Path(f"{stem}.svg").is_file()


def test_what_is_there_is_replaced_only_when_told(figure: Any, fedlease_run: Path) -> None:
    Path("fig7a.svg").write_text("mine")
    code, _, complaint = figure("7a", fedlease_run)
    assert (code, complaint.count("\n")) == (2, 1)
    assert "fig7a.svg is there already: say with --out" in complaint
    assert names(Path()) == ["fig7a.svg"]
    assert figure("7a", fedlease_run, "--out", "fig7a")[0] == 0
    assert Path("fig7a.svg").read_text() != "mine"


def test_runs_that_are_not_complete_are_left_out_and_named(figure: Any, tmp_path: Path) -> None:
    young = run("FedIT", seed=1, status="running")
    code, _, complaint = figure("2", save(young, tmp_path / "young"))
    assert code == 2
    assert "no run is complete (FedIT seed 1: running, 1 of 1 rounds" in complaint
    code, shown, _ = figure("2", sweep(tmp_path / "sweep", [run("FedIT"), young]))
    assert code == 0
    assert "note: left out: FedIT seed 1: running, 1 of 1 rounds" in shown
    assert "note: left out: not begun seed 0" in shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("5", "RUN"), "figure 5 is a drawing"),
        (("10", "RUN"), "there is no figure '10'; there are: 2, 3, 4, 6a"),
        (("6a", "RUN"), "figure 6a: runs of fedlease"),
        (("2", "nowhere"), "not the folder of a run"),
        (("7a", "RUN", "--out", "no/such/folder"), "cannot write no/such/folder.png"),
        (("7", "RUN", "--out", "no/such/folder"), "cannot write no/such/foldera.png"),
        (("2", "RUN", "RUN"), "are the same run of fedlease with the same seed"),
    ],
)
def test_failures_are_one_line_and_exit_code_2(
    figure: Any, fedlease_run: Path, arguments: tuple[str, ...], says: str
) -> None:
    code, _, complaint = figure(*[fedlease_run if word == "RUN" else word for word in arguments])
    assert (code, complaint.count("\n")) == (2, 1)
    assert says in complaint
    assert not names(Path())


def test_figures_of_runs_that_were_made(figure: Any, spec_of: Any, tmp_path: Path) -> None:
    mixture = {"name": "fedlease", "rank": 2, "experts": 2, "warmup_rounds": 1}
    everyone = {**mixture, "experts": "clients", "router": "local"}  # FedLoRA-MoE
    runs = {"3": {"name": "local_only", "rank": 2}, "6a": {**mixture, "router": "local"}, "6c": mixture}
    runs |= {f"top-{k}": {**everyone, "top_k": k} for k in (2, 3)}
    for name, method in runs.items():
        fedlease.run(spec_of(method=method, rounds=2), tmp_path / name)
    assert figure("3", tmp_path / "3")[0] == 0
    assert figure("6a", tmp_path / "6a", tmp_path / "6c")[0] == 0
    assert figure("6c", tmp_path / "6c")[0] == 0
    assert figure("7", tmp_path / "6c")[0] == 0
    assert figure("4", tmp_path / "top-2", tmp_path / "top-3")[0] == 0
    assert figure("9", tmp_path / "3", tmp_path / "6c")[0] == 0
    found = {path.stem for path in Path().iterdir()}
    assert found == {"fig3", "fig4", "fig6a", "fig6c", "fig7a", "fig7b", "fig7c", "fig9"}
