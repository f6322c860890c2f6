"""What a run shows while it goes."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

import fedlease
from fedlease.cli.live import Live
from fedlease.core.progress import Progress
from fedlease.experiments.spec import make_spec
from fedlease.training.precision import Plan


class EveryStep(Live):
    """Draws every step; a person gets ten pictures a second, which may miss a client of a tiny model."""

    def step(self, step: Progress) -> None:
        super().step(step)
        self._bar.refresh()


def test_a_terminal_sees_round_client_loss_speed_and_time_left(spec_of: Any, tmp_path: Path) -> None:
    screen = io.StringIO()
    live = EveryStep(Console(file=screen, force_terminal=True, width=160))
    fedlease.run(spec_of(rounds=2), tmp_path / "run", observer=live)
    text = screen.getvalue()
    for words in ("round 1/2", "tone-1 train", "loss", "rows/s", "left", "fedlease done in"):
        assert words in text


def test_elsewhere_a_run_prints_plain_lines(
    spec_of: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fedlease.cli.live.EVERY", 0.0)
    screen = io.StringIO()
    fedlease.run(spec_of(rounds=2), tmp_path / "run", observer=Live(Console(file=screen, width=160)))
    lines = screen.getvalue().splitlines()
    assert "\x1b" not in screen.getvalue()
    assert any("round 1/2  answers-0 warm-up" in line and "left" in line for line in lines)
    assert any("round 2/2: loss" in line for line in lines)


def test_the_next_run_on_a_terminal_starts_with_a_clean_line(spec_of: Any, tmp_path: Path) -> None:
    screen = io.StringIO()
    live = EveryStep(Console(file=screen, force_terminal=True, width=160))
    fedlease.run(spec_of(rounds=1, method={"name": "fedit", "rank": 2}), tmp_path / "a", observer=live)
    first = screen.getvalue()
    fedlease.run(spec_of(rounds=1, method={"name": "local_only", "rank": 2}), tmp_path / "b", observer=live)
    assert "fedit round 1/1" in first
    assert "fedit" not in screen.getvalue()[len(first) :]


def test_speed_and_time_left_are_those_of_the_run_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedlease.cli.live.EVERY", 0.0)
    screen = io.StringIO()
    live = Live(Console(file=screen, width=160))
    for seconds in (8.0, 0.5):
        live.begin(*a_federation())
        live.step(Progress("a", 1, "train", 4, 4, 8, 0.5, seconds))
        live.end(1.0)
    said = [line for line in screen.getvalue().splitlines() if "rows/s" in line]
    assert ["0 rows/s" in said[0], "8 rows/s" in said[1]] == [True, True]  # 4 / 8 and 4 / 0.5


def test_a_line_of_a_round_tells_every_metric_of_those_scored() -> None:
    screen = io.StringIO()
    live = Live(Console(file=screen, width=160))
    live.begin(*a_federation())
    metrics = {"a": {"rouge1": 0.5, "rougeL": 0.25}, "b": {}, "c": {"rouge1": 1.0, "rougeL": 0.5}}
    seconds = {"total": 4.0, "train": 2.0, "score": 1.0, "other": 1.0}
    live.round({"round": 1, "metrics": metrics, "loss": {"a": 0.5, "c": 0.25}, "seconds": seconds})
    live.round({"round": 2, "metrics": {}, "loss": {}, "seconds": seconds})
    lines = screen.getvalue().splitlines()
    rest = "4.0 s (25.0 % outside training and scoring)"
    assert lines[1] == f"  fedit round 1/2: loss 0.375, rouge1 75.0 %, rougeL 37.5 %, {rest}"
    assert lines[2] == f"  fedit round 2/2: {rest}"


def test_a_run_that_only_lacks_its_adapters_has_no_rounds_to_do() -> None:
    screen = io.StringIO()
    live = Live(Console(file=screen, width=160))
    spec, federation, _ = a_federation()
    live.begin(spec, federation, 1)
    live.begin(spec, federation, 2)
    assert [line.split(", ")[1] for line in screen.getvalue().splitlines()] == [
        "rounds 2 to 2",
        "all rounds done",
    ]


def a_federation() -> tuple[Any, Any, int]:
    """What `Live.begin` is told of two rounds of one client with eight rows."""
    site = SimpleNamespace(train_rows=range(8), test_rows=range(4))
    clients = [{"name": name, "data": "tone"} for name in ("a", "b")]
    spec = make_spec(
        {"rounds": 2, "method": {"name": "fedit"}, "training": {"epochs": 1}, "clients": clients}
    )
    plan = Plan("cpu", "float32", "sdpa", 1, "asked for")
    return spec, SimpleNamespace(sites={"a": site}, plan=plan), 0
