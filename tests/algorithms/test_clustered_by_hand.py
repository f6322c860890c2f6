"""IFCA and HydraLoRA on the toy, computed by hand in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from by_hand import A, B, a, b, goal, halfway, start
from sklearn.metrics.pairwise import cosine_distances
from toy import MODULES, Recorder, Unreliable, models, play, play_on, sites

from fedlease.algorithms.ifca_lora import CHOICE
from fedlease.algorithms.registry import build
from fedlease.core.adapter import Adapter, router_init
from fedlease.core.errors import FedLeaseError
from fedlease.core.seeds import derive
from fedlease.engines.inprocess import InProcess


def test_ifca_clusters_start_apart_and_clients_choose_the_least_loss() -> None:
    targets = {"a": 0.1, "b": 4.0, "c": 0.11, "d": 4.1}
    algorithm = build("ifca_lora", rank=2, clusters=2)
    engine = InProcess(algorithm, sites(targets))
    seen = Recorder(engine)
    state = algorithm.round(algorithm.init(MODULES, 0), seen)
    (_, starts), _ = seen.all
    assert len(starts) == 2
    before = {key: torch.stack([starts[c].weights[key] for c in _drawn(starts)]) for key in state.clusters}
    for client, answer in starts.items():
        np.testing.assert_allclose(answer.weights[A], halfway(start(A), targets[client]), atol=1e-6)
    for client, target in targets.items():
        losses = [
            sum(np.square(goal(t[j].shape, target) - t[j].double().numpy()).sum() for t in before.values())
            for j in range(2)
        ]
        assert state.choices[client] == int(np.argmin(losses)) == int(engine.kept[client][CHOICE])
    for j in range(2):
        members = [target for client, target in targets.items() if state.choices[client] == j]
        old = before[A][j].double().numpy()
        expected = np.mean([halfway(old, target) for target in members], axis=0) if members else old
        np.testing.assert_allclose(state.clusters[A][j], expected, atol=1e-6)
    traffic = engine.take_traffic()
    extra = int("a" in starts)  # it trained the common start too
    assert traffic.down["a"] == {"A": (2 + extra) * a, "B": (2 + extra) * b}
    assert traffic.up["a"] == {"A": (1 + extra) * a, "B": (1 + extra) * b}
    used = models(algorithm, state, engine)["a"]
    assert torch.equal(used.weights[B], state.clusters[B][state.choices["a"]])


def _drawn(clients):  # type: ignore[no-untyped-def]
    """In the order in which the seed draws them."""
    return sorted(clients, key=lambda client: derive(0, "ifca", client))


def test_ifca_asks_other_clients_where_one_does_not_start_its_cluster() -> None:
    algorithm = build("ifca_lora", rank=2, clusters=2)
    engine = InProcess(algorithm, sites({"a": 0.1, "b": 4.0, "c": 2.0}))
    first, second, third = _drawn(("a", "b", "c"))
    engine = Unreliable(algorithm, sites({"a": 0.1, "b": 4.0, "c": 2.0}))
    engine.missing = frozenset({(1, first)})
    seen = Recorder(engine)
    state = algorithm.round(algorithm.init(MODULES, 0), seen)
    assert len(state.clusters[A]) == 2
    assert [sorted(answers) for task, answers in seen.all if task == "start"] == [[second], [third]]
    engine.missing = frozenset({(1, first), (1, second)})
    with pytest.raises(FedLeaseError, match="too few to start 2 clusters"):
        algorithm.round(algorithm.init(MODULES, 0), engine)


def test_hydralora_shares_a_and_averages_b_within_clusters() -> None:
    targets = {"a": 0.1, "b": 4.0, "c": 0.11, "d": 4.1}
    algorithm = build("hydralora", rank=2, warmup_rounds=1, experts=2)
    engine = InProcess(algorithm, sites(targets))
    state = play(algorithm, engine, 1)
    assert state.allocation.labels == (0, 1, 0, 1)
    down = np.mean([halfway(start(A), target) for target in targets.values()], axis=0)  # the shared A
    products = np.stack([(halfway(start(B), target) @ down).ravel() for target in targets.values()])
    other = "layer.0.value."
    down = np.mean([halfway(start(f"{other}A"), target) for target in targets.values()], axis=0)
    values = np.stack([(halfway(start(f"{other}B"), target) @ down).ravel() for target in targets.values()])
    centred = [part - part.mean(0) for part in (products, values)]
    apart = np.mean([cosine_distances(part) for part in centred], axis=0)
    np.testing.assert_allclose(state.allocation.distances, apart, atol=1e-5)
    traffic = engine.take_traffic()
    assert traffic.up["a"] == {"A": a, "B": b}
    state = play_on(algorithm, state, engine, 1)
    shared = start(A)
    for _ in range(2):
        shared = np.mean([halfway(shared, target) for target in targets.values()], axis=0)
    np.testing.assert_allclose(state.shared[A], shared, atol=1e-6)
    for j, members in enumerate([(0.1, 0.11), (4.0, 4.1)]):
        own, router = start(B), router_init({"layer.0.value": 4}, 2, 0.02, 0, str(j))["layer.0.value.router"]
        own = np.mean([halfway(own, target) for target in members], axis=0)
        own = np.mean([halfway(own, target) for target in members], axis=0)
        np.testing.assert_allclose(state.heads[B][j], own, atol=1e-6)
        gate = np.mean([halfway(router.double().numpy(), target) for target in members], axis=0)
        np.testing.assert_allclose(state.heads["layer.0.value.router"][j], gate, atol=1e-6)
    traffic = engine.take_traffic()
    assert traffic.up["a"] == {"A": a, "B": b, "router": 2 * 2 * 4 * 4}
    assert traffic.down["a"] == {"A": a, "B": 2 * b, "router": 2 * 2 * 4 * 4}
    used = models(algorithm, state, engine)["b"]
    assert used.adapter == Adapter(2, experts=2, assigned=1, top_k=2, shared_a=True)
    assert torch.equal(used.weights[A], state.shared[A])
