"""What a run tells of its round on disk, and the lock that says whether a process is at it."""

from __future__ import annotations

import fcntl
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from runs import Make

import fedlease
from fedlease.core.errors import DivergedError, FedLeaseError
from fedlease.core.progress import Progress
from fedlease.experiments import heartbeat
from fedlease.experiments.heartbeat import Doing, Heartbeat, beating, read
from fedlease.experiments.lock import is_locked, lock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be moved by hand."""
    now = [100.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now[0])
    return now


def test_what_is_told_by_hand(tmp_path: Path, clock: list[float]) -> None:
    heart = Heartbeat(tmp_path, 2, 5)
    heart.step(Progress("a", 3, "warm-up", 8, 8, 16, 0.5, 2.0))
    heart.step(Progress("b", 3, "warm-up", 16, 16, 16, 0.25, 0.0, reused=4.0))
    heart.step(Progress("a", 0, "score", 10, 10, 10, None, 1.0))
    clock[0] += 7.0
    heart.step(Progress("b", 3, "train", 4, 4, 16, 0.125, 3.0))
    beat = read(tmp_path)
    assert beat is not None
    assert (beat.from_round, beat.round, beat.now, beat.why) == (2, 3, "b", None)
    assert beat.seconds == 7.0
    assert beat.done == 8 + 16 + 0.45 * 10 + 4
    assert beat.trained == {"rows": 12, "seconds": 5.0}  # what was only read says nothing of the speed
    assert beat.clients == {"a": Doing("score", 10, 10, 0.5), "b": Doing("train", 4, 16, 0.125)}
    heart.round({"round": 3})
    beat = read(tmp_path)
    assert beat is not None
    assert (beat.round, beat.now, beat.clients) == (4, None, {})


def test_it_is_told_once_a_second_at_most(tmp_path: Path, clock: list[float]) -> None:
    heart, told = Heartbeat(tmp_path, 0, 1), set()
    for _ in range(40):
        clock[0] += 0.125
        heart.step(Progress("a", 1, "train", 1, 1, 40, 0.5, 0.125))
        beat = read(tmp_path)
        assert beat is not None
        told.add(beat.seconds)
    assert sorted(told) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_where_nothing_can_be_written_the_run_goes_on(tmp_path: Path, clock: list[float]) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with beating(folder, 0, 1) as heart:
        shutil.rmtree(folder)
        clock[0] += 2.0
        heart.step(Progress("a", 1, "train", 1, 1, 1, 0.5, 2.0))
        assert read(folder) is None


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (DivergedError("the loss\nbecame nan"), "the loss became nan"),
        (ValueError("odd"), "ValueError odd"),
        (KeyboardInterrupt(), "it was interrupted"),
    ],
)
def test_what_ends_a_run_is_told(error: BaseException, why: str, tmp_path: Path) -> None:
    with pytest.raises(type(error)), beating(tmp_path, 0, 1):
        raise error
    beat = read(tmp_path)
    assert beat is not None
    assert beat.why == why


def test_nothing_is_left_of_it_in_a_complete_run(spec_of: Make, tmp_path: Path) -> None:
    seen: list[Any] = []

    class Reading:
        def begin(self, spec: Any, federation: Any, done: int) -> None: ...
        def step(self, step: Any) -> None:
            seen.append(read(tmp_path / "run"))

        def round(self, entry: dict[str, Any]) -> None: ...
        def end(self, seconds: float) -> None: ...

    fedlease.run(spec_of(rounds=2, method={"name": "fedit"}), tmp_path / "run", observer=Reading())
    assert {beat.round for beat in seen} == {1, 2}
    assert not (tmp_path / "run" / heartbeat.NAME).exists()


def test_a_lock_is_seen_and_ends_with_what_held_it(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    with lock(tmp_path):
        assert is_locked(tmp_path)
        assert is_locked(tmp_path)  # looking took nothing
        with pytest.raises(FedLeaseError, match="another process is at this run"), lock(tmp_path):
            pass
    assert not is_locked(tmp_path)


def test_a_lock_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    with pytest.raises(FedLeaseError, match=r"cannot write .*\.lock: Is a directory"), lock(tmp_path):
        pass


def test_whoever_looks_keeps_no_run_from_its_lock(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    with (tmp_path / ".lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.03, lambda: fcntl.flock(looking, fcntl.LOCK_UN)).start()
        with lock(tmp_path):
            assert is_locked(tmp_path)


def test_telling_takes_next_to_nothing(tmp_path: Path, clock: list[float]) -> None:
    """64 clients with a step every millisecond, for three seconds: less than a hundredth of the time."""
    heart = Heartbeat(tmp_path, 0, 1)
    steps = [Progress(f"client-{i}", 1, "train", 8, 8, 16, 0.5, 0.001) for i in range(64)]
    began = time.thread_time()
    for number in range(3000):
        clock[0] += 0.001
        heart.step(steps[number % 64])
    assert time.thread_time() - began < 0.01 * 3.0
