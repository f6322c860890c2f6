"""The in-process engine and the round loop."""

from __future__ import annotations

import pytest
import torch
from toy import MODULES, ToySite, sites

from fedlease.algorithms.registry import build
from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import Message
from fedlease.engines.drive import drive
from fedlease.engines.exchange import accept
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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_upload_that_is_not_finite_is_refused_by_name(value: float) -> None:
    up = Message({"m.A": torch.ones(2), "m.B": torch.tensor([1.0, value])})
    with pytest.raises(FedLeaseError, match=r"round 3: client bank sent NaN or infinity in m\.B"):
        accept(up, "bank", "task train, round 3")


def test_a_client_that_breaks_stops_the_round_by_name() -> None:
    class Broken(ToySite):
        def train(self, model, learn):  # type: ignore[no-untyped-def]
            return {name: tensor / 0 for name, tensor in super().train(model, learn).items()}

    algorithm = build("fedit", rank=2)
    engine = InProcess(algorithm, {"fine": ToySite(1.0), "odd": Broken(2.0)})
    with pytest.raises(FedLeaseError, match="round 1: client odd sent"):
        next(iter(drive(algorithm, algorithm.init(MODULES, 0), engine, done=0, rounds=1)))
