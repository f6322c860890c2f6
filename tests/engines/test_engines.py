"""The in-process engine and the round loop."""

from __future__ import annotations

import pytest
from toy import MODULES, ToySite, equal, sites

from fedlease.algorithms.registry import build
from fedlease.engines.drive import drive
from fedlease.engines.inprocess import InProcess


def test_bytes_are_those_of_the_tensors() -> None:
    algorithm = build("fedit", rank=3)
    engine = InProcess(algorithm, sites({"x": 0.0, "y": 1.0}))
    done = list(drive(algorithm, algorithm.init(MODULES, 0), engine, done=0, rounds=2))
    a, b = 3 * (4 + 4) * 4, 3 * (3 + 2) * 4  # rank x (inputs or outputs of both modules) x float32
    for round_ in done:
        both = {"A": 2 * a, "B": 2 * b}
        assert round_.traffic.total() == {"up": both, "down": both, "score": both}
        assert round_.traffic.up["x"] == {"A": a, "B": b}


@pytest.mark.parametrize(("every", "scored"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (9, [5])])
def test_rounds_are_scored_as_asked_and_at_the_end(every: int, scored: list[int]) -> None:
    algorithm = build("fedit", rank=2)
    engine = InProcess(algorithm, sites({"x": 0.0, "y": 1.0}))
    rounds = list(drive(algorithm, algorithm.init(MODULES, 0), engine, done=0, rounds=5, score_every=every))
    assert [r.number for r in rounds] == [1, 2, 3, 4, 5]
    assert [r.number for r in rounds if r.metrics] == scored
    assert [r.state.round for r in rounds] == [1, 2, 3, 4, 5]


def test_the_loop_goes_on_where_it_is_told() -> None:
    algorithm = build("fedit", rank=2)
    engine = InProcess(algorithm, sites({"x": 0.0, "y": 1.0}))
    assert [r.number for r in drive(algorithm, algorithm.init(MODULES, 0), engine, done=3, rounds=5)] == [
        4,
        5,
    ]


def test_a_round_goes_on_without_an_upload_that_is_refused() -> None:
    class Broken(ToySite):
        def train(self, model, learn):  # type: ignore[no-untyped-def]
            return {name: tensor / 0 for name, tensor in super().train(model, learn).items()}

    algorithm = build("fedsa_lora", rank=2)  # keeps B: what a refused client kept must not be used either
    engine = InProcess(algorithm, {**sites({"fine": 1.0, "good": 3.0}), "odd": Broken(2.0)})
    alone = InProcess(algorithm, sites({"fine": 1.0, "good": 3.0}))
    with_odd, without = (
        next(iter(drive(algorithm, algorithm.init(MODULES, 0), one, done=0, rounds=1)))
        for one in (engine, alone)
    )
    assert equal(with_odd.state.weights, without.state.weights)
    assert engine.kept["odd"] == {}
    assert all(equal(engine.kept[client], kept) for client, kept in alone.kept.items())
    (left_out,) = with_odd.traffic.left_out
    assert (left_out.client, left_out.task) == ("odd", "train")
    assert left_out.reason.startswith("sent NaN or infinity in layer.0.")
