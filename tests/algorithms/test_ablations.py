"""The ablations of FedLEASE, as settings of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from by_hand import A, fedlease_by_hand
from toy import MODULES, models, play, sites

from fedlease.algorithms.registry import build
from fedlease.core.adapter import Adapter
from fedlease.engines.inprocess import InProcess

TARGETS = {"a": 0.1, "b": 2.0, "c": 0.11, "d": 2.02}


def test_one_expert_a_client_is_never_averaged() -> None:
    algorithm = build("fedlease", rank=2, warmup_rounds=1, experts="clients", router="local")
    engine = InProcess(algorithm, sites(TARGETS))
    state = play(algorithm, engine, 3)
    assert state.allocation.labels == (0, 1, 2, 3)
    expected = fedlease_by_hand([[target] for target in TARGETS.values()], A, 3)
    np.testing.assert_allclose(state.experts[A], expected, atol=1e-6)
    assert "router" not in engine.take_traffic().total()["up"]


def test_without_a_router_a_client_has_its_clusters_expert_alone() -> None:
    algorithm = build("fedlease", rank=2, warmup_rounds=1, experts=2, router="none")
    engine = InProcess(algorithm, sites(TARGETS))
    state = play(algorithm, engine, 1)
    engine.take_traffic()
    state = algorithm.round(algorithm.round(state, engine), engine)
    expected = fedlease_by_hand([[0.1, 0.11], [2.0, 2.02]], A, 3)
    np.testing.assert_allclose(state.experts[A], expected, atol=1e-6)
    used = models(algorithm, state, engine)
    assert used["b"].adapter == Adapter(2)
    assert torch.equal(used["b"].weights[A], state.experts[A][1])
    one = {"A": 2 * 2 * 8 * 4, "B": 2 * 2 * 5 * 4}
    traffic = engine.take_traffic()
    assert traffic.up["a"] == traffic.down["a"] == one


@pytest.mark.parametrize("k", [1, 2])
def test_fixed_top_k_has_a_slot_an_expert(k: int) -> None:
    algorithm = build("fedlease", rank=2, warmup_rounds=1, experts=2, top_k=k)
    engine = InProcess(algorithm, sites(TARGETS))
    state = play(algorithm, engine, 2)
    assert models(algorithm, state, engine)["a"].adapter.top_k == k
    assert state.routers["layer.0.value.router"].shape == (2, 2, 4)


def test_a_single_expert_for_all_is_one_average() -> None:
    algorithm = build("fedlease", rank=2, warmup_rounds=1, experts=1)
    state = play(algorithm, InProcess(algorithm, sites(TARGETS)), 2)
    expected = fedlease_by_hand([list(TARGETS.values())], A, 2)
    np.testing.assert_allclose(state.experts[A], expected, atol=1e-6)
    assert not algorithm.main_phase(MODULES, 1)[0][0].adapter.slots
