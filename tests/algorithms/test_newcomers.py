"""FedLEASE with a client that comes late: alone first, then with the expert it belongs to; by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from by_hand import A, B, a, b, goal, halfway, start
from toy import MODULES, Recorder, equal, models, play, play_on, sites

from fedlease.algorithms.registry import build
from fedlease.core.codec import load_value, save_value
from fedlease.core.protocols import ClientId, Message
from fedlease.engines.inprocess import InProcess

TARGETS = {"a": 0.1, "b": 2.0, "c": 0.11, "d": 2.02}


class Coming(InProcess):
    """Clients that can be reached only from a round on, or not in some: client -> rounds it misses."""

    missed: Mapping[ClientId, frozenset[int]] = {}
    number = 0

    @property
    def ids(self) -> tuple[ClientId, ...]:
        return tuple(c for c in super().ids if self.number not in self.missed.get(c, frozenset()))

    def play(self, algorithm, state, rounds: int):  # type: ignore[no-untyped-def]
        for _ in range(rounds):
            self.number = state.round + 1
            state = algorithm.round(state, self)
        return state


def late(missed: Mapping[ClientId, range], **settings: object) -> tuple[object, Coming]:
    algorithm = build("fedlease", rank=2, experts=2, **settings)
    engine = Coming(algorithm, sites(TARGETS))
    engine.missed = {client: frozenset(rounds) for client, rounds in missed.items()}
    return algorithm, engine


def test_a_late_client_trains_alone_as_long_as_the_others_did_then_joins_its_expert() -> None:
    algorithm, engine = late({"d": range(1, 4)}, warmup_rounds=2)
    state = engine.play(algorithm, algorithm.init(MODULES, 0), 3)
    assert "d" not in state.allocation
    assert state.arrivals.joining == {}
    engine.take_traffic()

    fourth = engine.play(algorithm, state, 1)
    assert fourth.arrivals.joining == {"d": 1}
    traffic = engine.take_traffic()
    assert (traffic.up["d"], traffic.down["d"]) == ({}, {"A": a, "B": b})  # the start; it keeps its adapter
    alone = {key: halfway(start(key), 2.02) for key in (A, B)}
    np.testing.assert_allclose(engine.kept["d"][A].numpy(), alone[A], atol=1e-6)

    fifth = engine.play(algorithm, fourth, 1)
    traffic = engine.take_traffic()
    sent = {"A": a, "B": b, "first_A": a, "first_B": b}
    assert (traffic.up["d"], traffic.down["d"]) == (sent, {})  # the start was sent once
    assert fifth.arrivals.joining == {}
    assert fifth.allocation.newcomers == {"d": fifth.allocation.label("b")} == {"d": 1}
    assert engine.kept["d"] == {}
    assert models(algorithm, fifth, engine)["d"].adapter.assigned == 1

    for key in (A, B):  # until now b had the expert for itself; from now on it is the mean of both
        expert = fifth.experts[key][1].double().numpy()
        sixth = engine.play(algorithm, fifth, 1)
        both = np.mean([expert + 0.5 * (goal(expert.shape, t) - expert) for t in (2.0, 2.02)], axis=0)
        np.testing.assert_allclose(sixth.experts[key][1].numpy(), both, atol=1e-6)


def test_the_others_do_not_notice_a_newcomer_before_it_has_joined() -> None:
    algorithm, engine = late({"d": range(1, 4)}, warmup_rounds=2)
    never, alone = late({"d": range(1, 9)}, warmup_rounds=2)
    with_it = engine.play(algorithm, algorithm.init(MODULES, 0), 5)
    without = alone.play(never, never.init(MODULES, 0), 5)
    assert equal(with_it.experts, without.experts)
    assert equal(with_it.routers, without.routers)


@pytest.mark.parametrize("router", ["cluster", "local", "none"])
@pytest.mark.parametrize("stopped_after", range(1, 6))
def test_a_run_with_a_newcomer_goes_on_from_a_checkpoint(
    router: str, stopped_after: int, tmp_path: Path
) -> None:
    algorithm, whole = late({"d": range(1, 3), "b": range(2, 4)}, warmup_rounds=2, router=router)
    expected = whole.play(algorithm, algorithm.init(MODULES, 0), 7)
    assert set(expected.allocation.newcomers) == {"b", "d"}
    _, engine = late({"d": range(1, 3), "b": range(2, 4)}, warmup_rounds=2, router=router)
    state = engine.play(algorithm, algorithm.init(MODULES, 0), stopped_after)
    save_value(state, tmp_path, "state")
    again = engine.play(algorithm, load_value(type(state), tmp_path, "state"), 7 - stopped_after)
    assert again.allocation == expected.allocation
    want, got = models(algorithm, expected, whole), models(algorithm, again, engine)
    assert all(equal(got[client].weights, want[client].weights) for client in TARGETS)


def test_where_all_are_there_nothing_is_asked_beside_what_the_paper_says() -> None:
    algorithm = build("fedlease", rank=2, experts=2, warmup_rounds=2)
    clients = Recorder(InProcess(algorithm, sites(TARGETS)))
    state = play_on(algorithm, algorithm.init(MODULES, 0), clients, 4)  # type: ignore[arg-type]
    assert [task for task, _ in clients.all] == ["warm_up", "warm_up", "train", "train"]
    assert (state.allocation.newcomers, state.arrivals.joining) == ({}, {})


def test_a_newcomer_that_does_not_answer_is_asked_again() -> None:
    class Silent(Coming):
        def each(self, task: str, down: Mapping[ClientId, Message]) -> dict[ClientId, Message]:
            there = {c: m for c, m in down.items() if c != "d" or self.number in (5, 7)}
            return super().each(task, there)

    algorithm = build("fedlease", rank=2, experts=2, warmup_rounds=2)
    engine = Silent(algorithm, sites(TARGETS))
    state = engine.play(algorithm, algorithm.init(MODULES, 0), 6)
    assert state.arrivals.joining == {"d": 1}
    state = engine.play(algorithm, state, 1)
    assert state.allocation.newcomers == {"d": 1}


def test_with_an_expert_a_client_a_newcomer_shares_that_of_its_nearest() -> None:
    algorithm = build("fedlease", rank=2, experts="clients", warmup_rounds=1)
    engine = Coming(algorithm, sites(TARGETS))
    engine.missed = {"d": frozenset({1})}
    state = engine.play(algorithm, algorithm.init(MODULES, 0), 2)
    assert state.allocation.num_experts == 3
    assert state.allocation.label("d") == state.allocation.label("b")
    assert torch.isfinite(play(algorithm, engine, 1).start[A]).all()
