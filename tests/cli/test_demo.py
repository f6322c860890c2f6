"""The demonstration, made small, and what a run shows while it goes."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

import fedlease
from fedlease.cli import demo
from fedlease.cli.live import Live
from fedlease.core.errors import FedLeaseError


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A demonstration of seconds: what it finds is not looked at here."""
    monkeypatch.setattr(demo, "ROUNDS", 2)
    monkeypatch.setattr(demo, "ROWS", 8)
    monkeypatch.setattr(demo, "TEST_ROWS", 4)


@pytest.mark.usefixtures("small", "minilm")
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
    with pytest.raises(FedLeaseError, match="holds an earlier demo"):
        demo.run_demo(Console(file=shown), None, tmp_path / "out", 0)


@pytest.mark.usefixtures("small", "minilm")
def test_the_demo_takes_real_rows_where_they_are(glue: Path, tmp_path: Path) -> None:
    shown = io.StringIO()
    demo.run_demo(Console(file=shown, width=160), glue, tmp_path / "out", 0)
    assert "named by --data" in shown.getvalue()
    record = fedlease.Run(tmp_path / "out" / "fedlease").record
    assert {facts["data"] for facts in record["clients"].values()} == {"sst2", "qnli", "mrpc", "qqp"}


def test_a_terminal_sees_round_client_loss_speed_and_time_left(spec_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    screen = io.StringIO()
    live = Live(Console(file=screen, force_terminal=True, width=160))
    fedlease.run(spec_of(rounds=2), tmp_path / "run", observer=live)
    text = screen.getvalue()
    for words in ("round 1/2", "tone-1 train", "loss", "rows/s", "left", "fedlease done in"):
        assert words in text


def test_elsewhere_a_run_prints_plain_lines(
    spec_of,  # type: ignore[no-untyped-def]
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
