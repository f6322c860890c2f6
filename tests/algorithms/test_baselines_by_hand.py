"""FedDPA, IFCA, FLoRA, LoRA-FAIR and HydraLoRA on the toy, computed by hand in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_distances
from test_by_hand import A, B, goal, halfway
from toy import MODULES, ToySite, Unreliable, WatchedSite, models, play, sites

from fedlease.algorithms.ifca_lora import CHOICE
from fedlease.algorithms.registry import build
from fedlease.core.adapter import Adapter, lora_init, router_init
from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import Message
from fedlease.core.seeds import derive
from fedlease.engines.inprocess import InProcess

a, b = 2 * 8 * 4, 2 * 5 * 4  # bytes of A and B of both modules at rank 2


def start(key: str, rank: int = 2) -> np.ndarray:
    return lora_init(MODULES, rank, 0)[key].double().numpy()


def test_feddpa_t_trains_the_local_adapter_beside_the_global_one() -> None:
    algorithm = build("feddpa", rank=2, mix=0.25, alpha=6.0)
    engine = InProcess(algorithm, sites({"x": 0.0, "y": 3.0}))
    state = play(algorithm, engine, 3)
    for key in (A, B):
        shared = own = start(key)
        for number in range(3):
            shared = (halfway(shared, 0.0) + halfway(shared, 3.0)) / 2
            own = halfway(own, 3.0) if number else own  # not in the first round
        np.testing.assert_allclose(state.weights[key], shared, atol=1e-6)
        np.testing.assert_allclose(engine.kept["y"][key.replace(".query.", ".query.local_")], own, atol=1e-6)
    traffic = engine.take_traffic()
    assert traffic.up["x"] == {"A": 3 * a, "B": 3 * b}
    assert traffic.down["x"] == {"A": 3 * a, "B": 3 * b, "local_A": a, "local_B": b}  # the first local one
    used = models(algorithm, state, engine)["y"]
    assert used.adapter == Adapter(2, 0.75 * 6.0, fixed=2)
    np.testing.assert_allclose(
        used.weights["layer.0.query.fixed_B"], 0.25 * 3.0 * state.weights[B], atol=1e-6
    )
    assert torch.equal(used.weights["layer.0.query.fixed_A"], state.weights[A])


def test_feddpa_f_trains_the_global_adapter_first_and_sends_nothing_afterwards() -> None:
    algorithm = build("feddpa", rank=2, global_rounds=2)
    engine = InProcess(algorithm, sites({"x": 0.0, "y": 3.0}))
    state = play(algorithm, engine, 2)
    assert engine.kept == {"x": {}, "y": {}}
    assert models(algorithm, state, engine)["x"].adapter == Adapter(2)  # the global one alone
    engine.take_traffic()
    after = play_on(algorithm, state, engine, 2)
    assert engine.take_traffic().total()["up"] == {}
    assert torch.equal(after.weights[A], state.weights[A])
    own = halfway(halfway(start(A), 3.0), 3.0)
    np.testing.assert_allclose(engine.kept["y"]["layer.0.query.local_A"], own, atol=1e-6)


def play_on(algorithm, state, engine, rounds):  # type: ignore[no-untyped-def]
    for _ in range(rounds):
        state = algorithm.round(state, engine)
    return state


def test_ifca_clusters_start_apart_and_clients_choose_the_least_loss() -> None:
    targets = {"a": 0.1, "b": 4.0, "c": 0.11, "d": 4.1}
    algorithm = build("ifca_lora", rank=2, clusters=2)
    engine = InProcess(algorithm, sites(targets))
    seen = _Recorder(engine)
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
    seen = _Recorder(engine)
    state = algorithm.round(algorithm.init(MODULES, 0), seen)
    assert len(state.clusters[A]) == 2
    assert [sorted(answers) for task, answers in seen.all if task == "start"] == [[second], [third]]
    engine.missing = frozenset({(1, first), (1, second)})
    with pytest.raises(FedLeaseError, match="too few to start 2 clusters"):
        algorithm.round(algorithm.init(MODULES, 0), engine)


def test_flora_adds_the_mean_update_exactly_whatever_the_ranks() -> None:
    algorithm = build("flora", rank=2, ranks={"y": 1}, alpha=4.0, weighting="examples")
    engine = InProcess(algorithm, {"x": ToySite(0.5, 3), "y": ToySite(3.0, 1)})
    state = algorithm.init(MODULES, 0)
    total = np.zeros((3, 4))
    for _ in range(3):
        seen = _Recorder(engine)
        state = algorithm.round(state, seen)
        for client, rank, share in (("x", 2, 0.75), ("y", 1, 0.25)):
            up = seen.last[client].weights
            assert up[A].shape == (rank, 4)
            total += share * 4.0 / rank * up[B].double().numpy() @ up[A].double().numpy()
        folded = state.folded["layer.0.query.fixed_B"] @ state.folded["layer.0.query.fixed_A"]
        np.testing.assert_allclose(folded, total, atol=1e-4)
        used = models(algorithm, state, engine)["x"]
        assert not used.weights[B].any()  # what is folded is all there is
        product = used.weights["layer.0.query.fixed_B"] @ used.weights["layer.0.query.fixed_A"]
        np.testing.assert_allclose(product, total, atol=1e-4)
    assert len(state.folded["layer.0.query.fixed_A"]) <= 4  # 3 ranks a round would be 9 by now
    assert torch.equal(
        models(algorithm, algorithm.init(MODULES, 0), engine)["y"].weights[A], lora_init(MODULES, 1, 0)[A]
    )


def test_flora_trains_a_fresh_adapter_on_the_folded_base() -> None:
    algorithm = build("flora", rank=1, alpha=4.0)
    watched = {"x": WatchedSite(0.5), "y": WatchedSite(3.0)}
    engine = InProcess(algorithm, watched)
    state = algorithm.init(MODULES, 0)
    firsts = []
    for number in range(3):
        before = state.folded
        state = algorithm.round(state, engine)
        model, learn = watched["y"].seen[-1]
        assert learn.parts == ("A", "B")
        assert (model.adapter.rank, model.adapter.alpha) == (1, 4.0)
        assert not model.weights[B].any()
        firsts.append(model.weights[A])
        assert bool(model.adapter.fixed) == bool(number)
        for key in ("fixed_A", "fixed_B") if number else ():
            assert torch.equal(model.weights[f"layer.0.query.{key}"], before[f"layer.0.query.{key}"])
    assert not torch.equal(firsts[0], firsts[1])
    assert not torch.equal(firsts[1], firsts[2])


def test_feddpa_t_trains_the_local_adapter_in_the_mix_and_then_the_global_one_alone() -> None:
    algorithm = build("feddpa", rank=2, mix=0.25, alpha=6.0)
    watched = {"x": WatchedSite(0.0), "y": WatchedSite(3.0)}
    engine = InProcess(algorithm, watched)
    state = play(algorithm, engine, 1)
    ((model, _),) = watched["x"].seen
    assert model.adapter == Adapter(2, 6.0)  # the first round is the global adapter's
    shared = state.weights
    algorithm.round(state, engine)
    (local, first), (alone, second) = watched["x"].seen[1:]
    assert local.adapter == Adapter(2, 0.75 * 6.0, fixed=2)
    assert torch.equal(local.weights["layer.0.query.fixed_A"], shared[A])
    torch.testing.assert_close(local.weights["layer.0.query.fixed_B"], 0.25 * 6.0 / 2 * shared[B])
    assert alone.adapter == Adapter(2, 6.0)
    assert all(torch.equal(alone.weights[key], shared[key]) for key in shared)
    assert (first.purpose, second.purpose) == ("local", "train")


class _Recorder:
    """Clients whose last answers are remembered."""

    def __init__(self, engine: InProcess) -> None:
        self.engine, self.ids = engine, engine.ids
        self.all: list[tuple[str, dict[str, Message]]] = []

    def each(self, task, down):  # type: ignore[no-untyped-def]
        self.last = self.engine.each(task, down)
        self.all.append((task, self.last))
        return self.last


def test_flora_starts_afresh_each_round_and_sends_the_stack_of_the_last() -> None:
    algorithm = build("flora", rank=2)
    engine = Unreliable(algorithm, sites({"x": 0.5, "y": 3.0}))
    engine.missing = frozenset({(2, "y")})
    state = play(algorithm, engine, 1)
    down = engine.take_traffic().down
    assert down["x"] == {"A": a, "B": b}  # only the first time
    state = play_on(algorithm, state, engine, 1)
    assert engine.take_traffic().down["x"] == {"fixed_A": 2 * a, "fixed_B": 2 * b}
    state = play_on(algorithm, state, engine, 1)
    down = engine.take_traffic().down
    assert down["x"] == {"fixed_A": a, "fixed_B": b}  # x alone answered in round 2
    assert down["y"]["fixed_A"] > a  # it missed that stack, so all come
    for key in engine.kept["x"]:
        torch.testing.assert_close(engine.kept["x"][key], engine.kept["y"][key], rtol=0, atol=0)


def test_lora_fair_brings_the_product_near_the_mean_of_the_products() -> None:
    algorithm = build("lora_fair", rank=2, penalty=1e-9)
    plain = build("fedit", rank=2)
    targets = {"x": 0.3, "y": 3.0}
    state = play(algorithm, InProcess(algorithm, sites(targets)), 1)
    averaged = play(plain, InProcess(plain, sites(targets)), 1)
    each = [(halfway(start(A), t), halfway(start(B), t)) for t in targets.values()]
    wanted = np.mean([up @ down for down, up in each], axis=0)
    mean_a = np.mean([down for down, _ in each], axis=0)
    np.testing.assert_allclose(state.weights[A], mean_a, atol=1e-6)
    best = np.linalg.lstsq(mean_a.T, wanted.T, rcond=None)[0].T  # the B of least squares
    np.testing.assert_allclose(state.weights[B], best, atol=1e-4)
    off = [np.linalg.norm(s.weights[B].numpy() @ mean_a - wanted) for s in (state, averaged)]
    assert off[0] < off[1]


def test_lora_fair_with_a_large_penalty_is_fedit() -> None:
    fair, plain = build("lora_fair", rank=2, penalty=1e12), build("fedit", rank=2)
    targets = {"x": 0.3, "y": 3.0}
    refined = play(fair, InProcess(fair, sites(targets)), 2).weights
    averaged = play(plain, InProcess(plain, sites(targets)), 2).weights
    assert all(torch.allclose(refined[key], averaged[key], atol=1e-6) for key in averaged)


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


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("feddpa", {"mix": 1.0}, "mix is 1.0"),
        ("feddpa", {"global_rounds": 0}, "global_rounds is 0"),
        ("ifca_lora", {"clusters": 0}, "clusters is 0"),
        ("flora", {"ranks": {"x": 0}}, "client x has rank 0"),
        ("lora_fair", {"penalty": 0.0}, "penalty is 0.0"),
        ("hydralora", {"warmup_rounds": 0}, "warmup_rounds is 0"),
    ],
)
def test_settings_that_cannot_be(name: str, settings: dict, says: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(FedLeaseError, match=says):
        build(name, **settings)


@pytest.mark.parametrize(
    ("name", "settings", "rounds", "says"),
    [
        ("feddpa", {}, 1, "none is left to train the local adapters"),
        ("feddpa", {"global_rounds": 3}, 3, "none is left"),
        ("ifca_lora", {"clusters": 3}, 5, "clusters is 3, more than the 2 clients"),
        ("flora", {"ranks": {"z": 2}}, 5, "there is no client z"),
        ("hydralora", {"experts": 3}, 5, "experts is 3"),
        ("hydralora", {"warmup_rounds": 5}, 5, "no round is left"),
    ],
)
def test_federations_that_cannot_be(name: str, settings: dict, rounds: int, says: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(FedLeaseError, match=says):
        build(name, **settings).check(rounds, ("x", "y"))
