"""A run whose clients work elsewhere ends where nobody gives a sign, and never where somebody does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message
from grid import FakeGrid, Node, mail
from test_simulation import Elsewhere, asked, assert_same

import fedlease
from fedlease.core.errors import FedLeaseError
from fedlease.deploy import pulse
from fedlease.deploy.pulse import NAME, Pulse, Silence
from fedlease.deploy.simulation import simulated
from fedlease.experiments.engine import RunEngine, Start


def unslept(seconds: float) -> None:
    """No time passes but in the counting."""


def test_silence_is_waiting_without_a_sign(tmp_path: Path) -> None:
    (tmp_path / NAME).parent.mkdir()
    silence = Silence(tmp_path, 10.0, unslept, lambda: "they wait")
    for _ in range(4):
        Pulse(tmp_path)()  # another actor each time
        for _ in range(5):
            silence.wait(1.9)
    silence.wait(1.9)
    with pytest.raises(
        FedLeaseError, match=r"no actor has done anything for 10 s \(they wait\): .* 'fedlease resume'"
    ):
        silence.wait(1.9)


def test_signs_are_given_at_most_once_a_second_and_never_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(pulse.time, "monotonic", lambda: now[0])
    one = Pulse(tmp_path)
    one()  # there is no folder
    (tmp_path / NAME).parent.mkdir()
    one("a batch")
    assert not (tmp_path / NAME).exists()
    now[0] += 1.0
    one("a batch")
    assert (tmp_path / NAME).exists()


@dataclass(frozen=True)
class Clock:
    """Counts what is slept, as the clock of a simulation on Ray does."""

    silence: Silence

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float, /) -> None:
        self.silence.wait(seconds)


@dataclass(frozen=True)
class Stuck:
    """A carrier of which one client's second task never begins; all that is slept is counted."""

    name: str = "ray"

    def check(self) -> None: ...

    @contextmanager
    def start(self, start: Start) -> Iterator[RunEngine]:
        tasks = []

        def node(message: Message) -> list[Message]:
            tasks.append(message)
            return [] if len(tasks) > len(start.spec.ids) else asked(message)

        grid = FakeGrid({number: Node(node) for number in range(7, 7 + len(start.spec.ids))})
        clock = Clock(Silence(start.store.folder, 900.0, unslept))
        with simulated(start, mail(grid, clock)) as engine:
            yield engine


def test_a_run_in_which_nobody_works_ends_and_goes_on(spec_of: Any, tmp_path: Path) -> None:
    spec = spec_of(method={"name": "feddpa", "rank": 2}, score_every=3)
    with pytest.raises(FedLeaseError, match="no actor has done anything for 900 s"):
        fedlease.run(spec, tmp_path / "two", engine=Stuck())
    assert_same(fedlease.resume(tmp_path / "two", engine=Elsewhere()), fedlease.run(spec, tmp_path / "one"))
