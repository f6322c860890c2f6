"""What a sweep shows, fed with the events of a sweep that never ran."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedlease.cli.sweep import SweepScreen, hours, plan
from fedlease.experiments.jobs import Job
from fedlease.experiments.manifest import Tuned
from fedlease.experiments.pace import Pace, like
from fedlease.experiments.pool import Event
from fedlease.experiments.presets import find
from fedlease.experiments.sweep import Sweep


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(20, "under a minute"), (59 * 60, "59 min"), (3600, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_hours(seconds: float, words: str) -> None:
    assert hours(seconds) == words


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """A sweep of which a hundredth of a second a row was measured, and twice that for a row scored."""
    made = Sweep([find("fig7")], "small", tmp_path, (0,), 2)
    spec = made.todo()[0].spec
    costs = {"train": 0.01, "loss": 0.005, "usage": 0.005, "score": 0.02}
    made.pace = Pace({(like(spec, e), kind): cost for e in spec.clients for kind, cost in costs.items()})
    return made


def cost(sweep: Sweep, one: Job) -> float:
    return one.work.seconds(sweep.pace.costs(one.spec))


def test_the_plan_says_what_there_is_to_do(sweep: Sweep) -> None:
    (line,) = plan(sweep)
    assert line.startswith("fig7 (small): 1 runs, and 3 trials to choose learning rates on held-out")


@pytest.mark.parametrize("terminal", [True, False])
def test_what_is_shown_from_start_to_end(
    sweep: Sweep, terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedlease.cli.sweep.EVERY", 0.0)
    screen = io.StringIO()
    shown = SweepScreen(Console(file=screen, force_terminal=terminal, width=160))
    shown.begin(sweep)
    first = sweep.tuning.jobs[0]
    whole = sweep.left({})
    shown.event(Event(first.name, {"whole": cost(sweep, first)}))
    shown.event(Event(first.name, {"done": cost(sweep, first) / 2}))
    shown.event(Event(first.name, {"done": cost(sweep, first)}))
    shown.event(Event(first.name, {}, 0))
    shown.left(whole - cost(sweep, first))
    shown.event(Event("other", {"error": "client a: there are no rows"}))
    shown.event(Event("other", {}, 2))
    shown.event(Event("third", {"diverged": "the training loss became nan"}))
    shown.event(Event("third", {}, 0))
    shown.event(Event("fourth", {}, -9))
    shown.chosen("fedlease", Tuned(0.003, {"0.001": 0.6, "0.003": 0.7, "0.005": None}))
    shown.stop()
    text = screen.getvalue()
    assert f"This will take about {hours(whole / 2)} in 2 process(es). Measured just now, in each: " in text
    assert "minilm 100 rows/s in training, 50 in scoring, 200 in computing losses." in text
    assert f"{first.name}: done in 0:00" in text
    assert "other: client a: there are no rows" in text
    assert "third: the training loss became nan" in text
    assert "fourth: ended with status -9" in text
    assert "learning rate of fedlease: 0.003 (held-out training rows, 0.001: 60.0 %, 0.003: 70.0 %" in text
    assert "0.005: diverged" in text
    if not terminal:
        assert "\x1b" not in text
        assert f"{100 * cost(sweep, first) / whole:.0f} %, " in text


@pytest.mark.parametrize("terminal", [True, False])
def test_measuring_the_pace_is_seen(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedlease.cli.sweep.EVERY", 0.0)
    screen = io.StringIO()
    shown = SweepScreen(Console(file=screen, force_terminal=terminal, width=160))
    for done in range(3):
        shown.pacing(done, 2)
    shown.stop()
    text = screen.getvalue()
    assert text.count("Measuring how long rows take on this machine") == 1
    if terminal:
        assert "measuring the pace" in text
    else:
        assert text.splitlines()[1:] == ["  measuring the pace: 1 of 2", "  measuring the pace: 2 of 2"]


def test_what_is_done_never_falls_when_a_run_ends(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedlease.cli.sweep.EVERY", 0.0)
    screen = io.StringIO()
    shown = SweepScreen(Console(file=screen, width=160))
    shown.begin(sweep)
    whole, (first, second, *_) = sweep.left({}), sweep.tuning.jobs
    for one, share in ((first, 0.5), (second, 0.5), (first, 1.0)):
        shown.event(Event(one.name, {"whole": cost(sweep, one), "done": share * cost(sweep, one)}))
    shown.event(Event(first.name, {}, 0))
    shown.left(whole - cost(sweep, first))  # the second one's half is not taken off
    shown.event(Event(second.name, {"done": 0.5 * cost(sweep, second)}))
    told = [int(part) for part in re.findall(r"^ +(\d+) %", screen.getvalue(), re.MULTILINE)]
    parts = [0.5 * cost(sweep, first), 0.5 * (cost(sweep, first) + cost(sweep, second))]
    parts += [cost(sweep, first) + 0.5 * cost(sweep, second)] * 3
    assert told == [round(100 * part / whole) for part in parts]


def test_what_goes_on_counts_as_left_from_where_it_started(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, whole = sweep.tuning.jobs[0], sweep.left({})
    monkeypatch.setattr(Job, "rounds", lambda job, _: 2 if job.name == one.name else 0)
    assert sweep.left({one.name: 0}) == whole
    assert sweep.left({}) == pytest.approx(whole - cost(sweep, one) * 2 / one.spec.rounds)


def test_what_other_runs_trained_counts_as_done_and_not_as_pace(sweep: Sweep) -> None:
    shown = SweepScreen(Console(file=io.StringIO(), width=160))
    shown.begin(sweep)
    shown.event(Event("x", {"whole": 1000.0}))
    shown.event(Event("x", {"reused": 300.0}))
    shown.event(Event("x", {"reused": 200.0}))
    shown.event(Event("x", {"done": 50.0}))
    going = shown._going["x"]
    assert (going.done, going.worked) == (550.0, 50.0)


def test_ctrl_c_says_how_to_go_on(tmp_path: Path, glue: Path, minilm: Any) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "fedlease", "sweep", "fig7", "--out", str(tmp_path), "--jobs", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"FEDLEASE_DATA": str(glue), "PATH": "", "PYTHONPATH": ":".join(sys.path)},
        start_new_session=True,
        # Where the tests themselves run in the background, interrupts are ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    logs = tmp_path / "store" / "logs"
    deadline = time.monotonic() + 300  # a busy machine takes minutes until it listens
    while not logs.is_dir() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    for _ in range(3):  # as a person does, until it listens
        process.send_signal(signal.SIGINT)
        try:
            _, said = process.communicate(timeout=90)
            break
        except subprocess.TimeoutExpired:
            continue
    else:
        process.kill()
        pytest.fail("it does not stop")
    assert process.returncode == 130
    assert "the same 'fedlease sweep'" in said
    assert said.startswith("fedlease: stopped; rounds that were done are kept")
