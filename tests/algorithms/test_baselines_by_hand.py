"""FedDPA, FLoRA and LoRA-FAIR on the toy, computed by hand in float64; settings of all baselines."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from by_hand import A, B, a, b, halfway, start
from toy import MODULES, Recorder, ToySite, Unreliable, WatchedSite, models, play, play_on, sites

from fedlease.algorithms.registry import build
from fedlease.core.adapter import Adapter, lora_init
from fedlease.core.errors import FedLeaseError
from fedlease.engines.inprocess import InProcess


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


def test_flora_adds_the_mean_update_exactly_whatever_the_ranks() -> None:
    algorithm = build("flora", rank=2, ranks={"y": 1}, alpha=4.0, weighting="examples")
    engine = InProcess(algorithm, {"x": ToySite(0.5, 3), "y": ToySite(3.0, 1)})
    state = algorithm.init(MODULES, 0)
    total = np.zeros((3, 4))
    for _ in range(3):
        seen = Recorder(engine)
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
