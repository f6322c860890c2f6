"""Averages, stacks, byte counts and seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlease.core.adapter import Adapter, Learn, Model, lora_init, trainable
from fedlease.core.errors import FedLeaseError
from fedlease.core.seeds import derive, generator
from fedlease.core.weights import mean, module, nbytes, part, select, stack, unstack


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=9))
@settings(max_examples=30, deadline=None)
def test_the_mean_is_numpys_in_float64(shares: list[int]) -> None:
    items = [{"m.A": draw(seed, 3, 4)} for seed in range(len(shares))]
    stacked = np.stack([item["m.A"].double().numpy() for item in items])
    plain = torch.from_numpy(stacked.mean(axis=0)).float()
    weighted = torch.from_numpy(np.average(stacked, axis=0, weights=shares)).float()
    torch.testing.assert_close(mean(items)["m.A"], plain, rtol=0, atol=1e-7)
    torch.testing.assert_close(mean(items, shares)["m.A"], weighted, rtol=0, atol=1e-7)


def test_the_mean_of_one_is_itself_to_the_bit() -> None:
    item = {"m.A": draw(0, 5, 7), "m.B": draw(1, 2, 2)}
    assert all(torch.equal(mean([item])[name], item[name]) for name in item)


@pytest.mark.parametrize(
    ("items", "by", "says"),
    [
        ([], None, "no client answered"),
        ([{"m.A": torch.ones(1)}, {"m.B": torch.ones(1)}], None, "different names"),
        ([{"m.A": torch.ones(1)}], [0.0], "in the proportions"),
        ([{"m.A": torch.ones(1)}], [1.0, 2.0], "in the proportions"),
    ],
)
def test_means_that_cannot_be(
    items: list[dict[str, torch.Tensor]], by: list[float] | None, says: str
) -> None:
    with pytest.raises(FedLeaseError, match=says):
        mean(items, by)


def test_names_and_parts() -> None:
    assert part("encoder.layer.0.query.A") == "A"
    assert module("encoder.layer.0.query.A") == "encoder.layer.0.query"
    weights = {"x.A": torch.zeros(2, 3), "x.B": torch.zeros(4), "y.A": torch.zeros(1, dtype=torch.bfloat16)}
    assert list(select(weights, ("A",))) == ["x.A", "y.A"]
    assert nbytes(weights) == {"A": 2 * 3 * 4 + 2, "B": 16}


def test_unstack_undoes_stack() -> None:
    experts = [{"m.A": draw(seed, 2, 3)} for seed in range(12)]
    stacked = stack(experts)
    assert stacked["m.A"].shape == (12, 2, 3)
    assert all(torch.equal(unstack(stacked, j)["m.A"], experts[j]["m.A"]) for j in range(12))


def test_seeds_depend_on_every_word_and_on_nothing_else() -> None:
    assert derive(0, "batches", "bank", 3) == derive(0, "batches", "bank", 3)
    others = {derive(1, "a", 3), derive(0, "a", 4), derive(0, "b", 3), derive(0, "a3"), derive(0, "a", 3)}
    assert len(others) == 5
    assert all(0 <= seed < 2**63 for seed in others)
    assert torch.equal(torch.rand(3, generator=generator(5, "x")), torch.rand(3, generator=generator(5, "x")))


def test_lora_starts_as_peft_does_and_each_module_on_its_own() -> None:
    both = lora_init({"a": (3, 400), "b": (5, 400)}, 4, 0)
    assert both["a.A"].shape == (4, 400)
    assert both["b.B"].shape == (5, 4)
    assert not both["b.B"].any()
    bound = 1 / np.sqrt(400)  # kaiming_uniform_ with a = sqrt(5): U(-1/sqrt(d), 1/sqrt(d))
    assert 0.95 * bound < both["a.A"].abs().max() <= bound
    assert torch.equal(both["b.A"], lora_init({"b": (5, 400)}, 4, 0)["b.A"])
    assert not torch.equal(both["a.A"], both["b.A"])


def test_only_the_assigned_expert_counts_as_trained() -> None:
    weights = {"m.A": torch.zeros(4, 2, 8), "m.B": torch.zeros(4, 6, 2), "m.router": torch.zeros(7, 8)}
    model = Model(Adapter(2, experts=4), weights)
    assert trainable(model, Learn()) == {"A": 16, "B": 12, "router": 56}
    assert trainable(model, Learn(("B",))) == {"B": 12}


@pytest.mark.parametrize(
    ("settings_", "says"),
    [
        ({"rank": 0}, "rank is 0"),
        ({"rank": 2, "alpha": 0}, "alpha is 0"),
        ({"rank": 2, "dropout": 1.0}, "dropout is 1.0"),
        ({"rank": 2, "experts": 2, "assigned": 2}, "expert 2 of 2"),
        ({"rank": 2, "experts": 2, "top_k": 3}, "top_k is 3"),
    ],
)
def test_adapters_that_cannot_be(settings_: dict[str, float], says: str) -> None:
    with pytest.raises(FedLeaseError, match=says):
        Adapter(**settings_)  # type: ignore[arg-type]


def test_slots() -> None:
    assert [Adapter(2, experts=m).slots for m in (1, 2, 4)] == [0, 3, 7]
    assert Adapter(2, experts=4, top_k=2).slots == 4
