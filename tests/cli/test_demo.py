"""The demonstration, made small."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import fedlease
from fedlease.cli import demo
from fedlease.cli.live import Live
from fedlease.core.errors import FedLeaseError
from fedlease.data.sources import Source
from fedlease.data.where import Location
from fedlease.experiments.spec import Spec, make_spec


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A demonstration of seconds: what it finds is not looked at here."""
    monkeypatch.setattr(demo, "ROUNDS", 3)
    monkeypatch.setattr(demo, "ROWS", 8)
    monkeypatch.setattr(demo, "TEST_ROWS", 4)


@pytest.fixture
def on_the_tiny_model(small: None, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small demonstration with another model; test_wheel.py runs one on MiniLM."""
    whole = demo.demo_spec

    def with_it(*asked: Any) -> Spec:
        spec = whole(*asked)
        return spec.model_copy(update={"model": spec.model.model_copy(update={"name": str(tiny)})})

    monkeypatch.setattr(demo, "demo_spec", with_it)


@pytest.mark.usefixtures("on_the_tiny_model")
def test_without_any_data_the_demo_makes_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDLEASE_DATA", raising=False)
    shown = io.StringIO()
    demo.run_demo(Console(file=shown, width=160), None, tmp_path / "out", 0)
    text = shown.getvalue()
    assert "small generated text tasks" in text
    for words in ("fedit", "fedlease", "Experts", "average", "sent up", "rows/s", "rounds.png"):
        assert words in text
    for picture in ("rounds.png", "allocation.png"):
        assert (tmp_path / "out" / picture).read_bytes().startswith(b"\x89PNG")
    both = [fedlease.Run(tmp_path / "out" / name).record for name in ("fedit", "fedlease")]
    hashes = [{client: facts["rows_hash"] for client, facts in record["clients"].items()} for record in both]
    assert hashes[0] == hashes[1]  # the same rows for both methods
    assert len(hashes[0]) == 16


def quick(tiny: Path, rounds: int = 3) -> Callable[..., Spec]:
    """A stand-in for `demo.demo_spec` that takes a second: the tiny model, a client a task."""

    def spec(method: dict[str, Any], tasks: tuple[str, ...], root: Path | None, seed: int) -> Spec:
        clients = [{"name": task, "data": task, "train_rows": 8, "test_rows": 4} for task in tasks]
        model = {"name": str(tiny), "threads": 1, "precision": "float32", "max_length": 16}
        data = {"root": None if root is None else str(root)}
        return make_spec(
            {
                "name": "demo",
                "seed": seed,
                "rounds": rounds,
                "model": model,
                "method": {**method, "rank": 2},
                "data": data,
                "training": {"batch_size": 8},
                "clients": clients,
            }
        )

    return spec


@pytest.fixture
def show_demo(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run the quick demonstration on generated texts; return what it prints."""
    monkeypatch.delenv("FEDLEASE_DATA", raising=False)
    monkeypatch.setattr(demo, "demo_spec", quick(tiny))

    def show(out: Path = tmp_path / "out", seed: int = 0) -> str:
        shown = io.StringIO()
        demo.run_demo(Console(file=shown, width=160), None, out, seed)
        return shown.getvalue()

    return show


def test_a_second_demo_takes_what_the_first_left(show_demo: Any, tmp_path: Path) -> None:
    first = show_demo()
    (tmp_path / "out" / "rounds.png").unlink()
    before = (tmp_path / "out" / "fedit" / "record.json").read_bytes()
    second = show_demo()
    assert "fedit: going on with the run in" in second
    assert "done in" not in second  # nothing is trained again
    assert first.splitlines()[-12:] == second.splitlines()[-12:]
    assert (tmp_path / "out" / "rounds.png").is_file()
    assert (tmp_path / "out" / "fedit" / "record.json").read_bytes() == before


def test_a_stopped_demo_goes_on(show_demo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Live, entry: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Live, "round", stop)
        with pytest.raises(KeyboardInterrupt):
            show_demo()
    text = show_demo()
    assert "fedit: 4 clients, rounds 2 to 3" in text
    assert "fedlease: 4 clients, rounds 1 to 3" in text
    for name in ("fedit", "fedlease"):
        assert len(fedlease.Run(tmp_path / "out" / name).record["rounds"]) == 3


def test_another_seed_is_refused_before_anything_runs(show_demo: Any, tmp_path: Path) -> None:
    show_demo()
    shutil.rmtree(tmp_path / "out" / "fedit")
    with pytest.raises(FedLeaseError, match=r"another seed .*: remove .*out, or choose another --out"):
        show_demo(seed=1)
    assert not (tmp_path / "out" / "fedit").exists()


def test_a_place_that_is_no_demo_is_left_alone(show_demo: Any, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    with pytest.raises(FedLeaseError, match="is a file: --out names the folder"):
        show_demo(file)
    with pytest.raises(FedLeaseError, match="holds something that is not a demo"):
        show_demo(tmp_path)
    assert file.read_text() == "mine"


def test_a_hub_that_answers_but_gives_no_data_is_said(
    show_demo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(source: object, root: Path | None) -> None:
        assert root is None
        raise FedLeaseError("hub data set nyu-mll/glue (sst2): cannot be loaded (403)")

    hub = Location("hub", None, "Data: GLUE from the hub.")
    monkeypatch.setattr(demo, "locate", lambda data, env: hub)
    monkeypatch.setattr(demo, "load", refused)
    text = show_demo()
    assert "Data: small generated text tasks, because" in text
    assert "(403)" in text
    assert "GLUE from the hub." not in text
    clients = fedlease.Run(tmp_path / "out" / "fedlease").record["clients"]
    assert {facts["data"] for facts in clients.values()} == {"tone", "answers", "paraphrase", "requests"}


def test_a_hub_that_gives_the_data_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Source] = []
    monkeypatch.setattr(demo, "load", lambda source, root: asked.append(source))
    hub = Location("hub", None, "Data: GLUE from the hub.")
    assert demo.usable(hub) == hub
    assert [source.hub_config for source in asked] == ["sst2", "qnli", "mrpc", "qqp"]


@pytest.mark.usefixtures("on_the_tiny_model")
def test_the_demo_takes_real_rows_where_they_are(glue: Path, tmp_path: Path) -> None:
    shown = io.StringIO()
    demo.run_demo(Console(file=shown, width=160), glue, tmp_path / "out", 0)
    assert "named by --data" in shown.getvalue()
    record = fedlease.Run(tmp_path / "out" / "fedlease").record
    assert {facts["data"] for facts in record["clients"].values()} == {"sst2", "qnli", "mrpc", "qqp"}
