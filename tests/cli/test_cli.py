"""The command line: what it prints, and how it fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fedlease


def test_run_show_and_resume(command: Any, spec_of: Any, tmp_path: Path, toml: Any) -> None:
    path, out = toml(spec_of(), tmp_path / "spec.toml"), tmp_path / "out"
    code, shown, _ = command("run", path, "--out", out, "--set", "rounds=2")
    assert code == 0
    for words in ("round 2/2", "loss", "accuracy", "% outside training and scoring", "tone-1", "Experts"):
        assert words in shown
    code, again, _ = command("show", out)
    assert code == 0
    assert "complete, 2 of 2 rounds, seed 0" in again
    assert command("resume", out)[0] == 0
    code, _, complaint = command("run", path, "--out", out)
    assert code == 2
    assert "fedlease resume" in complaint


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "nowhere.toml"), "cannot read nowhere.toml"),
        (
            ("run", "nowhere.toml", "--track", "ticker"),
            "there is no tracker 'ticker'; there are: tensorboard",
        ),
        (("resume", "nowhere"), "not the folder of a run"),
        (("show", "nowhere"), "not the folder of a run"),
        (("params", "--model", "gpt-9"), "no shape is known"),
        (("params", "--model", "minilm", "--rank", "0"), "rank is 0"),
        (("params", "--model", "minilm", "--experts", "0"), "expert 0 of 0 does not exist"),
        (("params", "--model", "minilm", "--method", "x"), "there is no method 'x'"),
        (("allocate", "nowhere-a", "nowhere-b"), "nowhere-a"),
        (("demo", "--data", "nowhere"), "there is no folder nowhere"),
    ],
)
def test_failures_are_one_line_and_exit_code_2(
    command: Any, arguments: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, complaint = command(*arguments)
    assert code == 2
    assert says in complaint
    assert complaint.startswith("fedlease: ")
    assert complaint.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": {"name": "no/such-model"}}, "cannot load model 'no/such-model'"),
        ({"clients.0": {"train": "gone.csv"}}, "gone.csv"),
        ({"clients.0": {"train": "empty.jsonl"}}, "empty.jsonl"),
        ({"clients.0": {"train": "rows.jsonl", "text": ["txt"]}}, "txt"),
        ({"clients.0": {"train": "rows.jsonl", "labels": ["only"]}}, "rows.jsonl"),
        ({"clients.0": {"train": "rows.jsonl", "train_rows": 500}}, "mine"),
    ],
)
def test_bad_data_and_models_are_named_and_nothing_is_written(
    command: Any, spec_of: Any, tmp_path: Path, changes: dict[str, Any], says: str, toml: Any
) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    lines = [json.dumps({"text": f"number {i}", "label": i % 2}) for i in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    spec = spec_of()
    if "clients.0" in changes:
        entry = {"name": "mine", "text": ["text"], "train_rows": 20, "test_rows": 10, **changes["clients.0"]}
        spec["clients"] = [entry, *spec["clients"][1:]]
    else:
        spec.update(changes)
    path, out = toml(spec, tmp_path / "spec.toml"), tmp_path / "out"
    code, _, complaint = command("run", path, "--out", out)
    assert (code, complaint.count("\n")) == (2, 1)
    assert says in complaint
    assert not out.exists()


def test_show_puts_runs_side_by_side(command: Any, spec_of: Any, tmp_path: Path) -> None:
    for name in ("fedit", "local_only"):
        fedlease.run(spec_of(method={"name": name, "rank": 2}, rounds=1), tmp_path / name)
    picture = tmp_path / "rounds.png"
    code, shown, _ = command("show", tmp_path / "fedit", tmp_path / "local_only", "--picture", picture)
    assert code == 0
    assert shown.index("fedit") < shown.index("local_only")
    assert "sent up" in shown
    assert picture.read_bytes().startswith(b"\x89PNG")
    other = spec_of(rounds=1, method={"name": "fedit", "rank": 2})
    other["clients"] = other["clients"][:1]
    fedlease.run(other, tmp_path / "other")
    code, _, complaint = command("show", tmp_path / "fedit", tmp_path / "other")
    assert code == 2
    assert "have different clients" in complaint


def test_params_prints_the_papers_percentage(command: Any) -> None:
    code, shown, _ = command("params", "--model", "roberta-large", "--rank", "4", "--experts", "4")
    assert code == 0
    assert "737,280" in shown
    assert "0.2075 %" in shown


def test_methods_lists_all(command: Any) -> None:
    code, shown, _ = command("methods")
    assert code == 0
    for name in ("fedlease", "fedlease_paper", "fedit", "local_only"):
        assert name in shown


@pytest.fixture(scope="module")
def adapters(spec_of: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four stock LoRA folders of two tasks, which no test changes."""
    out = tmp_path_factory.mktemp("adapters") / "run"
    run = fedlease.run(spec_of(method={"name": "local_only", "rank": 2}, rounds=1), out)
    return [run.adapter(client) for client in run.record["clients"]]


def test_allocate_says_which_adapters_belong_together(
    command: Any, adapters: list[Path], tmp_path: Path
) -> None:
    picture = tmp_path / "picture.png"
    code, shown, _ = command("allocate", *adapters, "--picture", picture)
    assert code == 0
    assert "silhouette by number of experts: 2:" in shown
    assert picture.read_bytes().startswith(b"\x89PNG")
    found = fedlease.allocate([str(folder) for folder in adapters])
    assert len(found.labels) == 4
    assert set(found.scores) == {2, 3}


def test_allocate_draws_over_a_picture_only_when_told(command: Any, adapters: list[Path], here: Path) -> None:
    code, shown, _ = command("allocate", *adapters)
    assert code == 0
    assert "picture: allocation.png" in shown
    (here / "allocation.png").write_text("mine")
    code, _, complaint = command("allocate", *adapters)
    assert (code, complaint.count("\n")) == (2, 1)
    assert "allocation.png is there already" in complaint
    assert "--picture" in complaint
    assert (here / "allocation.png").read_text() == "mine"
    assert command("allocate", *adapters, "--picture", "allocation.png")[0] == 0
    assert (here / "allocation.png").read_bytes().startswith(b"\x89PNG")


def test_allocate_prints_json_and_nothing_else(command: Any, adapters: list[Path], here: Path) -> None:
    for options, arguments in [
        ((), {}),
        (("--experts", 3), {"num_experts": 3}),
        (
            ("--min-experts", 2, "--distance", "b", "--no-centered"),
            {"min_experts": 2, "distance": "b", "centered": False},
        ),
    ]:
        code, shown, _ = command("allocate", *adapters, "--json", *options)
        assert code == 0
        assert json.loads(shown) == fedlease.allocate(adapters, **arguments).to_json()
    assert not list(here.iterdir())
    assert command("allocate", *adapters, "--json", "--picture", "asked.png")[0] == 0
    assert [path.name for path in here.iterdir()] == ["asked.png"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--distance", "cosine"), "distance is 'cosine': it must be one of b, product"),
        (("--experts", 5), "num_experts is 5: it must be between 1 and the 4 clients"),
        (("--min-experts", 9), "min_experts is 9: it must be between 1 and max_experts = 8"),
        (("--max-experts", 0), "max_experts = 0"),
    ],
)
def test_allocate_says_which_option_cannot_be(
    command: Any, adapters: list[Path], tmp_path: Path, options: tuple[object, ...], says: str
) -> None:
    code, _, complaint = command("allocate", *adapters, "--picture", tmp_path / "picture.png", *options)
    assert (code, complaint.count("\n")) == (2, 1)
    assert says in complaint
    assert not (tmp_path / "picture.png").exists()


def test_help_loads_no_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys; sys.argv = ['fedlease', '--help']\n"
        "from fedlease.cli import main\n"
        "try: main()\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "Federated LoRA" in shown
    assert shown.strip().endswith("False")
