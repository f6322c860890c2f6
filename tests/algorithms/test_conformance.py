"""What every method must do, run over all that the registry finds."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import MODULES, ThroughBytes, ToySite, Unreliable, Without, equal, models, play, sites

from fedlease.algorithms.feddpa import FedDPA
from fedlease.algorithms.registry import build, find, methods
from fedlease.algorithms.steps import examples
from fedlease.core.adapter import Adapter, Learn, Model, lora_init, trainable
from fedlease.core.codec import load_value, save_value
from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import Message, Site
from fedlease.core.weights import Weights, module, part, rename, select
from fedlease.engines.inprocess import InProcess

TARGETS = {"a-0": 0.1, "a-1": 0.11, "b-0": 2.0, "b-1": 2.02, "c-0": 5.0, "c-1": 5.1}
ROUNDS = 4

SETTINGS: dict[str, dict[str, Any]] = {"ifca_lora": {"clusters": 1}}
"""What a method needs to make sense with a single client."""

CLUSTERING = ("fedlease", "fedlease_paper", "hydralora")
"""Methods that compare clients, and so need two."""

every_method = pytest.mark.parametrize("name", list(methods()))


@every_method
def test_bytes_and_a_rebuilt_method_change_nothing(name: str) -> None:
    direct, wire = InProcess(build(name), sites(TARGETS)), ThroughBytes(name, {}, sites(TARGETS))
    there = models(build(name), play(build(name), direct, ROUNDS), direct)
    back = models(build(name), play(build(name), wire, ROUNDS), wire)
    assert all(equal(there[client].weights, back[client].weights) for client in TARGETS)
    assert all(there[client].adapter == back[client].adapter for client in TARGETS)


@every_method
@pytest.mark.parametrize("stopped_after", [1, 2, 3])
def test_resumed_equals_uninterrupted(name: str, stopped_after: int, tmp_path: Path) -> None:
    algorithm = build(name)
    whole = InProcess(algorithm, sites(TARGETS))
    expected = models(algorithm, play(algorithm, whole, ROUNDS), whole)

    first = InProcess(algorithm, sites(TARGETS))
    state = play(algorithm, first, stopped_after)
    save_value(state, tmp_path, "state")
    again = load_value(type(state), tmp_path, "state")
    second = InProcess(build(name), sites(TARGETS), first.kept)
    for _ in range(ROUNDS - stopped_after):
        again = build(name).round(again, second)
    resumed = models(algorithm, again, second)
    assert all(equal(expected[client].weights, resumed[client].weights) for client in TARGETS)


class Watching(InProcess):
    """Sites of which nothing that they keep goes up, neither by its name nor under another one."""

    def each(self, task: str, down: Mapping[str, Message]) -> dict[str, Message]:
        answers = super().each(task, down)
        for client, answer in answers.items():
            kept = self.kept[client]
            shared = [key for key in answer.weights if key in kept]
            shared += [
                f"{key} as {name}"
                for name, sent in answer.weights.items()
                for key, own in kept.items()
                if own.any() and torch.equal(own, sent)
            ]
            assert not shared, f"{client} sends up {shared}, which it keeps"
        return answers


@every_method
def test_what_a_client_keeps_stays_home(name: str) -> None:
    algorithm = build(name)
    play(algorithm, Watching(algorithm, sites(TARGETS)), ROUNDS)


def test_a_private_adapter_under_another_name_is_noticed() -> None:
    class Leaky(FedDPA):
        def train_both(self, down: Message, kept: Weights, site: Site) -> tuple[Message, Weights]:
            _, kept = self.train_local(down, kept, site)
            return Message(rename(kept, {"local_A": "A", "local_B": "B"}), examples(site)), kept

    algorithm = Leaky()
    with pytest.raises(AssertionError, match=r"sends up \['.*local_A as .*A'"):
        play(algorithm, Watching(algorithm, sites(TARGETS)), ROUNDS)


PLAIN = (
    "fedit",
    "ffa_lora",
    "fedsa_lora",
    "local_only",
    "lora_fair",
    "fedlease",
    "fedlease_paper",
    "hydralora",
)
"""Methods in which one client alone trains one LoRA adapter, round after round."""


@pytest.mark.parametrize("name", PLAIN)
def test_alike_clients_get_what_plain_training_gives(name: str) -> None:
    algorithm = build(name)
    engine = InProcess(algorithm, sites(dict.fromkeys(("a", "b", "c"), 0.7)))
    got = models(algorithm, play(algorithm, engine, ROUNDS), engine)
    ((_, learn),) = algorithm.main_phase(MODULES, 1)
    expected = lora_init(MODULES, algorithm.rank, 0)
    for number in range(ROUNDS):
        expected = ToySite(0.7).train(
            Model(Adapter(algorithm.rank), expected), Learn(learn.parts, round=number)
        )
    for model in got.values():
        own = select(model.weights, ("A", "B"))
        for key, tensor in own.items():
            mine = tensor[model.adapter.assigned] if model.adapter.stacked(part(key)) else tensor
            torch.testing.assert_close(
                mine, expected[key], rtol=0, atol=2e-3 if name == "lora_fair" else 1e-6
            )


@pytest.mark.parametrize("name", [name for name in methods() if name not in CLUSTERING])
def test_alike_clients_get_what_one_would_get_alone(name: str) -> None:
    algorithm = build(name, **SETTINGS.get(name, {}))
    many = InProcess(algorithm, sites(dict.fromkeys(("a", "b", "c"), 0.7)))
    together = models(algorithm, play(algorithm, many, ROUNDS), many)
    one = InProcess(algorithm, sites({"a": 0.7}))
    alone = updates(models(algorithm, play(algorithm, one, ROUNDS), one)["a"])
    for model in together.values():
        for key, update in updates(model).items():
            torch.testing.assert_close(update, alone[key], rtol=1e-5, atol=1e-5)


def updates(model: Model) -> dict[str, torch.Tensor]:
    """What a plain adapter adds to the base weight of each module, [l, d]."""
    adapter, found = model.adapter, {}
    for key, a in select(model.weights, ("A",)).items():
        name = module(key)
        found[name] = adapter.alpha / adapter.rank * model.weights[f"{name}.B"] @ a
        if adapter.fixed:
            found[name] = found[name] + model.weights[f"{name}.fixed_B"] @ model.weights[f"{name}.fixed_A"]
    return found


@every_method
def test_a_client_that_was_never_reached_can_still_be_deployed(name: str) -> None:
    algorithm = build(name)
    state = algorithm.init(MODULES, 0)
    model = algorithm.deploy(algorithm.serve(state, "new"), {})
    assert equal(select(model.weights, ("A", "B")), lora_init(MODULES, model.adapter.rank, 0))


@every_method
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_round_is_over_who_answered(name: str, number: int) -> None:
    """A client that does not answer in a round, and one that cannot be reached in it, are the same."""
    algorithm = build(name)
    silent = Unreliable(algorithm, sites(TARGETS))
    silent.missing = frozenset({(number, "b-1")})
    state = play(algorithm, silent, ROUNDS)
    engine = InProcess(algorithm, sites(TARGETS))
    expected = algorithm.init(MODULES, 0)
    for round in range(1, ROUNDS + 1):
        before = dict(engine.kept.get("b-1", {}))
        expected = algorithm.round(expected, Without(engine, algorithm, "b-1") if round == number else engine)
        assert round != number or equal(engine.kept.get("b-1", {}), before)
    got, want = models(algorithm, state, silent), models(algorithm, expected, engine)
    for client in TARGETS:
        assert equal(got[client].weights, want[client].weights)


@every_method
def test_a_client_that_never_answers_changes_nothing_for_the_others(name: str) -> None:
    algorithm = build(name)
    there = {client: target for client, target in TARGETS.items() if client != "b-1"}
    engine = Unreliable(algorithm, sites(TARGETS))
    engine.missing = frozenset((number, "b-1") for number in range(1, ROUNDS + 1))
    without = play(algorithm, engine, ROUNDS)
    alone = InProcess(algorithm, sites(there))
    expected = play(algorithm, alone, ROUNDS)
    for client in there:
        got = algorithm.deploy(algorithm.serve(without, client), engine.kept.get(client, {}))
        want = algorithm.deploy(algorithm.serve(expected, client), alone.kept.get(client, {}))
        assert equal(got.weights, want.weights)


@every_method
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_round_that_nobody_answers_is_said_or_passes(name: str, number: int) -> None:
    algorithm = build(name)
    engine = Unreliable(algorithm, sites(TARGETS))
    engine.missing = frozenset((number, client) for client in TARGETS)
    with contextlib.suppress(FedLeaseError):  # anything else is a fault
        play(algorithm, engine, ROUNDS)


WEIGHTED = [name for name in methods() if "weighting" in find(name).options()]


@pytest.mark.parametrize("name", WEIGHTED)
def test_a_client_of_three_times_the_rows_counts_three_times(name: str) -> None:
    """One client with three times the rows is the same as three clients that are alike."""
    settings = {"ifca_lora": {"clusters": 1}, "hydralora": {"experts": 1}}.get(name, {})
    if name.startswith("fedlease"):
        settings = {"experts": 1, "min_experts": 1}
    by_rows, plainly = build(name, weighting="examples", **settings), build(name, **settings)
    heavy = InProcess(by_rows, {"a": ToySite(0.1, 3), "b": ToySite(2.0, 1)})
    thrice = InProcess(plainly, sites({"a": 0.1, "a-1": 0.1, "a-2": 0.1, "b": 2.0}))
    first = updates(models(by_rows, play(by_rows, heavy, ROUNDS), heavy)["b"])
    second = updates(models(plainly, play(plainly, thrice, ROUNDS), thrice)["b"])
    for key, update in first.items():
        torch.testing.assert_close(update, second[key], rtol=1e-4, atol=1e-4)


@every_method
def test_another_seed_gives_another_start(name: str) -> None:
    algorithm = build(name)
    first, second = (algorithm.serve(algorithm.init(MODULES, seed), "a").weights for seed in (0, 1))
    assert not equal(first, second)


@every_method
@pytest.mark.parametrize("experts", [1, 3])
def test_the_main_phase_is_what_is_trained(name: str, experts: int) -> None:
    for model, learn in build(name).main_phase(MODULES, experts):
        counts = trainable(model, learn)
        assert set(counts) <= set(learn.parts)
        assert counts.get("A", 0) == ("A" in learn.parts) * build(name).rank * 8  # two modules of four inputs
        assert counts.get("B", 0) == ("B" in learn.parts) * build(name).rank * 5  # of three and two outputs
        assert counts
