"""A site that comes after experts were allocated, over a fake Grid: the numbers of one process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from grid import Node
from toy import MODULES, equal, sites
from toys import TARGETS, Toys, silent

from fedlease.algorithms.registry import build
from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import ClientId
from fedlease.engines.drive import drive
from fedlease.engines.flower import Flower, Terms
from fedlease.engines.inprocess import InProcess

ROUNDS = 7
LATE = 13  # the node of d


class Late(InProcess):
    """One process in which d cannot be reached before a round."""

    first, number = 4, 0

    @property
    def ids(self) -> tuple[ClientId, ...]:
        return tuple(client for client in super().ids if client != "d" or self.number >= self.first)


def play(engine: Any, before: Any = None, rounds: int = ROUNDS, state: Any = None) -> list[Any]:
    algorithm = build("fedlease", rank=2)
    state = algorithm.init(MODULES, 0) if state is None else state
    done = []
    for number in range(state.round + 1, rounds + 1):
        if before:
            before(number)
        done += drive(algorithm, state, engine, done=number - 1, rounds=number)
        state = done[-1].state
    return done


@pytest.fixture
def expected() -> list[Any]:
    engine = Late(build("fedlease", rank=2), sites(TARGETS))
    return play(engine, lambda number: setattr(engine, "number", number))


class Trial:
    """Toy sites of which d comes in round 4, and a server that begins with a quorum."""

    def __init__(self, folder: Path) -> None:
        self.toys = Toys("fedlease", folder, Terms(60.0, 0.5, 0.75))
        self.node = self.toys.grid.nodes.pop(LATE)

    def comes(self, number: int) -> None:
        if number == Late.first:
            self.toys.grid.nodes[LATE] = Node(self.node.handler, since="9")

    def engine(self, session: int = 1, kept: Mapping[str, Any] | None = None) -> Flower:
        return self.toys.engine(session, kept)


def same(one: Any, other: Any) -> bool:
    assert one.allocation == other.allocation
    return equal(one.experts, other.experts) and equal(one.routers, other.routers)


def test_a_late_site_warms_up_alone_and_joins(tmp_path: Path, expected: list[Any]) -> None:
    trial = Trial(tmp_path)
    got = play(trial.engine(), trial.comes)
    assert same(got[-1].state, expected[-1].state)
    assert got[-1].state.allocation.newcomers == {"d": got[-1].state.allocation.label("c")}
    for one, other in zip(got, expected, strict=True):
        assert one.traffic.total() == other.traffic.total()
        missed = {(left.client, left.reason) for left in one.traffic.left_out}
        assert missed == ({("d", "cannot be reached")} if one.number < Late.first else set())


@pytest.mark.parametrize("stopped_after", [3, 4, 5, 6])
def test_a_server_that_goes_on_has_not_forgotten_it(
    stopped_after: int, tmp_path: Path, expected: list[Any]
) -> None:
    trial = Trial(tmp_path)
    engine = trial.engine()
    done = play(engine, trial.comes, stopped_after)[-1]
    kept = dict(engine.kept)
    trial.comes(stopped_after + 1)
    build("fedlease", rank=2).round(done.state, engine)  # lost with the server
    again = play(trial.engine(2, kept), None, ROUNDS, done.state)
    assert same(again[-1].state, expected[-1].state)


def test_a_newcomer_that_stays_silent_does_not_stop_the_others(tmp_path: Path, expected: list[Any]) -> None:
    """Asked alone it is all of those asked, and yet no more than one of four."""
    trial = Trial(tmp_path)
    trial.toys.sites["d"].faults = dict.fromkeys(range(1, 20), silent)
    got = play(trial.engine(), trial.comes)
    said = [(one.task, one.reason) for one in got[Late.first - 1].traffic.left_out]
    assert ("warm_up", "did not answer in 60 s") in said
    assert got[-1].state.allocation.newcomers == {}
    del trial.toys.grid.nodes[10], trial.toys.grid.nodes[11]
    with pytest.raises(FedLeaseError, match=r"task train, round 8: 1 of 3 sites .* and 2 are needed"):
        play(trial.engine(2), None, 8, got[-1].state)


def test_who_is_away_is_named_once_though_a_round_asks_twice(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    engine = trial.engine()

    def before(number: int) -> None:
        trial.comes(number)
        if number == Late.first:
            del trial.toys.grid.nodes[10]

    got = play(engine, before, Late.first)
    said = [(one.client, one.task) for one in got[-1].traffic.left_out]
    assert said == [("a", "train"), ("a", "score")]
