"""Each method's numbers on the toy, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from by_hand import A, B, a, b, fedlease_by_hand, halfway, start
from toy import MODULES, ToySite, models, play, sites

from fedlease.algorithms.registry import build, find, methods
from fedlease.core.adapter import lora_init, router_init
from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import Message
from fedlease.engines.inprocess import InProcess


def test_fedit_averages_a_and_b_each_round() -> None:
    algorithm = build("fedit", rank=2)
    engine = InProcess(algorithm, sites({"x": 0.0, "y": 3.0}))
    state = play(algorithm, engine, 2)
    for key, shape in ((A, (2, 4)), (B, (3, 2))):
        value = start(key)
        for _ in range(2):
            value = (halfway(value, 0.0) + halfway(value, 3.0)) / 2
        assert value.shape == shape
        np.testing.assert_allclose(state.weights[key].numpy(), value, atol=1e-6)


def test_fedit_can_weight_by_examples() -> None:
    algorithm = build("fedit", rank=2, weighting="examples")
    engine = InProcess(algorithm, {"x": ToySite(0.0, 3), "y": ToySite(3.0, 1)})
    state = play(algorithm, engine, 1)
    expected = 0.75 * halfway(start(B), 0.0) + 0.25 * halfway(start(B), 3.0)
    np.testing.assert_allclose(state.weights[B].numpy(), expected, atol=1e-6)


def test_local_only_sends_nothing_up_and_averages_nothing() -> None:
    algorithm = build("local_only", rank=2)
    engine = InProcess(algorithm, sites({"x": 0.0, "y": 3.0}))
    state = play(algorithm, engine, 2)
    assert engine.take_traffic().total()["up"] == {}
    for client, target in (("x", 0.0), ("y", 3.0)):
        value = halfway(halfway(start(A), target), target)
        np.testing.assert_allclose(models(algorithm, state, engine)[client].weights[A], value, atol=1e-6)


def test_ffa_lora_freezes_a_and_averages_b() -> None:
    algorithm = build("ffa_lora", rank=2)
    engine = InProcess(algorithm, sites({"x": 0.0, "y": 3.0}))
    state = play(algorithm, engine, 2)
    value = start(B)
    for _ in range(2):
        value = (halfway(value, 0.0) + halfway(value, 3.0)) / 2
    np.testing.assert_allclose(state.weights[B].numpy(), value, atol=1e-6)
    used = models(algorithm, state, engine)["x"].weights
    assert torch.equal(used[A], lora_init(MODULES, 2, 0)[A])
    traffic = engine.take_traffic()
    assert traffic.up["x"] == {"B": 2 * b}
    assert traffic.down["x"] == {"A": a, "B": 2 * b}  # A once


def test_fedsa_lora_averages_a_and_keeps_b() -> None:
    algorithm = build("fedsa_lora", rank=2)
    engine = InProcess(algorithm, sites({"x": 0.0, "y": 3.0}))
    state = play(algorithm, engine, 2)
    shared = start(A)
    for _ in range(2):
        shared = (halfway(shared, 0.0) + halfway(shared, 3.0)) / 2
    np.testing.assert_allclose(state.weights[A].numpy(), shared, atol=1e-6)
    for client, target in (("x", 0.0), ("y", 3.0)):
        own = halfway(halfway(np.zeros((3, 2)), target), target)
        np.testing.assert_allclose(models(algorithm, state, engine)[client].weights[B], own, atol=1e-6)
    assert engine.take_traffic().up["x"] == {"A": 2 * a}


@pytest.mark.parametrize("name", ["fedlease", "fedlease_paper"])
def test_fedlease_experts_are_cluster_means(name: str) -> None:
    algorithm = build(name, rank=2, warmup_rounds=1, experts=2)
    targets = {"a": 0.1, "b": 2.0, "c": 0.11, "d": 2.02}
    engine = InProcess(algorithm, sites(targets))
    state = play(algorithm, engine, 3)
    assert state.allocation.labels == (0, 1, 0, 1)
    for key in (A, B):
        expected = fedlease_by_hand([[0.1, 0.11], [2.0, 2.02]], key, 3)
        np.testing.assert_allclose(state.experts[key].numpy(), expected, atol=1e-6)


def test_fedlease_routers_are_cluster_means() -> None:
    algorithm = build("fedlease", rank=2, warmup_rounds=1, experts=2)
    engine = InProcess(algorithm, sites({"a": 0.1, "b": 2.0, "c": 0.11, "d": 2.02}))
    state = play(algorithm, engine, 2)
    router = "layer.0.value.router"
    assert state.routers[router].shape == (2, 3, 4)  # M routers of 2M-1 slots and d inputs
    for j, members in enumerate([[0.1, 0.11], [2.0, 2.02]]):
        start = router_init({"layer.0.value": 4}, 3, 0.02, 0, str(j))[router].double().numpy()
        expected = np.mean([halfway(start, target) for target in members], axis=0)
        np.testing.assert_allclose(state.routers[router][j].numpy(), expected, atol=1e-6)


def test_fedlease_local_routers_never_leave() -> None:
    algorithm = build("fedlease", rank=2, warmup_rounds=1, experts=2, router="local")
    engine = InProcess(algorithm, sites({"a": 0.1, "b": 2.0, "c": 0.11, "d": 2.02}))
    play(algorithm, engine, 3)
    traffic = engine.take_traffic()
    assert "router" not in traffic.total()["up"]
    assert traffic.down["a"]["router"] == 2 * 3 * 4 * 4  # the first one, once
    assert set(engine.kept["a"]) == {f"{module}.router" for module in MODULES}
    assert not torch.equal(engine.kept["a"]["layer.0.value.router"], engine.kept["c"]["layer.0.value.router"])


def test_fedlease_trains_alone_for_every_warm_up_round_and_uploads_once() -> None:
    algorithm = build("fedlease", rank=2, warmup_rounds=2, experts=1)
    engine = InProcess(algorithm, sites({"a": 0.1, "b": 2.0}))
    state = algorithm.round(algorithm.init(MODULES, 0), engine)
    assert engine.take_traffic().up == {"a": {}, "b": {}}
    assert state.allocation is None
    state = algorithm.round(state, engine)
    assert engine.take_traffic().up["a"] == {"A": a, "B": b, "first_A": a, "first_B": b}
    alone = [halfway(halfway(start(A), target), target) for target in (0.1, 2.0)]
    np.testing.assert_allclose(state.experts[A][0].numpy(), np.mean(alone, axis=0), atol=1e-6)
    assert engine.kept == {"a": {}, "b": {}}


@pytest.mark.parametrize(("later", "rounds"), [(True, 3), (False, 3), (True, 1)])
def test_what_clients_learned_after_their_first_round_is_compared_too(later: bool, rounds: int) -> None:
    targets = {"a": 0.1, "b": 2.0, "c": -0.7, "d": 2.02}
    algorithm = build("fedlease", rank=2, warmup_rounds=rounds, later=later)
    engine = InProcess(algorithm, sites(targets))
    state = play(algorithm, engine, rounds)
    expected, parts = np.zeros((4, 4)), 0
    for path in MODULES:
        whole, after = [], []
        for target in targets.values():
            products = []
            factors = {kind: start(f"{path}.{kind}") for kind in ("A", "B")}
            for _ in range(rounds):
                factors = {kind: halfway(value, target) for kind, value in factors.items()}
                products.append((factors["B"] @ factors["A"]).ravel())
            whole.append(products[-1])
            after.append(products[-1] - products[0])
        for view in [whole, after] if later and rounds > 1 else [whole]:
            updates = np.array(view) - np.mean(view, axis=0)
            lengths = np.linalg.norm(updates, axis=1)
            expected, parts = expected + 1 - updates @ updates.T / np.outer(lengths, lengths), parts + 1
    np.testing.assert_allclose(state.allocation.distances, expected / parts, atol=1e-5)


def test_fedlease_sends_all_experts_down_and_one_up() -> None:
    algorithm = build("fedlease", rank=2, warmup_rounds=1, experts=2)
    engine = InProcess(algorithm, sites({"a": 0.1, "b": 2.0, "c": 0.11, "d": 2.02}))
    state = play(algorithm, engine, 1)
    engine.take_traffic()
    algorithm.round(state, engine)
    traffic = engine.take_traffic()
    one = {"A": 2 * 8 * 4, "B": 2 * 5 * 4, "router": 2 * 3 * 4 * 4}
    assert traffic.up["a"] == one
    assert traffic.down["a"] == {"A": 2 * one["A"], "B": 2 * one["B"], "router": one["router"]}


@pytest.mark.parametrize(
    ("name", "settings"), [("fedlease", {}), ("fedlease", {"router": "none"}), ("hydralora", {})]
)
def test_what_is_sent_to_many_clients_is_in_memory_once(name: str, settings: dict[str, object]) -> None:
    algorithm = build(name, rank=2, warmup_rounds=1, experts=2, **settings)
    engine = InProcess(algorithm, sites({"a": 0.1, "b": 2.0, "c": 0.11, "d": 2.02}))
    state = play(algorithm, engine, 2)
    assert state.allocation.labels == (0, 1, 0, 1)
    one, other = (algorithm.serve(state, client).weights for client in ("a", "c"))
    assert {key: one[key].data_ptr() for key in one} == {key: other[key].data_ptr() for key in other}


def test_an_expert_whose_clients_are_all_missing_waits() -> None:
    class Half(InProcess):
        @property
        def ids(self) -> tuple[str, ...]:
            return ("a", "c")

    algorithm = build("fedlease", rank=2, warmup_rounds=1, experts=2)
    targets = sites({"a": 0.1, "b": 2.0, "c": 0.11, "d": 2.02})
    state = play(algorithm, InProcess(algorithm, targets), 2)
    after = algorithm.round(state, Half(algorithm, targets))
    assert torch.equal(after.experts[A][1], state.experts[A][1])
    assert torch.equal(after.routers["layer.0.query.router"][1], state.routers["layer.0.query.router"][1])
    assert not torch.equal(after.experts[A][0], state.experts[A][0])


def test_a_client_without_an_expert_uses_what_it_has() -> None:
    algorithm = build("fedlease", rank=2, warmup_rounds=1, experts=2)
    state = play(algorithm, InProcess(algorithm, sites({"a": 0.1, "b": 2.0, "c": 0.11})), 2)
    assert algorithm.deploy(algorithm.serve(state, "late"), {}).adapter.experts == 1


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("fedlese", {}, "there are: feddpa, fedit, fedlease"),
        ("fedit", {"experts": 2}, "no setting 'experts'; it has: rank"),
        ("fedit", {"rank": 0}, "rank is 0"),
        ("fedit", {"rank": "many"}, "method.rank"),
        ("fedlease", {"distance": "cosine"}, "method.distance"),
        ("fedlease", {"warmup_rounds": 0}, "warmup_rounds is 0"),
        ("fedlease", {"min_experts": 9}, "min_experts is 9, above max_experts"),
        ("local_only", {"dropout": 1.5}, "dropout is 1.5"),
    ],
)
def test_settings_that_cannot_be(name: str, settings: dict[str, object], says: str) -> None:
    with pytest.raises(FedLeaseError, match=says):
        build(name, **settings)


def test_every_method_says_where_it_is_from() -> None:
    for name, method in methods().items():
        assert method.name == name
        assert method.summary.endswith(".")
        assert method.paper
        assert find(name).options()["rank"] >= 1


def test_scores_come_from_what_a_client_would_use() -> None:
    algorithm = build("fedit", rank=2)
    engine = InProcess(algorithm, sites({"x": 0.0, "y": 3.0}))
    state = play(algorithm, engine, 1)
    answer = engine.each("score", {"x": algorithm.serve(state, "x")})["x"]
    model = algorithm.deploy(Message(state.weights), {})
    assert answer.facts == ToySite(0.0).score(model)
