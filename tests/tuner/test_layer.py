"""The layer against Eq. 5 written out expert by expert, in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from tuner_layers import D, L, make, trained, written_out

from fedlease.core.errors import FedLeaseError
from fedlease.tuner import FedLeaseConfig, FedLeaseLayer


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(2, 12), st.booleans(), st.booleans(), st.integers(0, 2**31))
def test_values_and_gradients_are_those_of_the_equation(
    data: st.DataObject, experts: int, vanilla: bool, normalize: bool, seed: int
) -> None:
    layer = make(
        num_experts=experts,
        assigned_expert=data.draw(st.integers(0, experts - 1)),
        top_k=data.draw(st.integers(1, experts)) if vanilla else None,
        normalize_weights=normalize,
        lora_alpha=3.0,
    )
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(6, D, dtype=torch.float64, generator=random, requires_grad=True)
    by = torch.randn(6, L, dtype=torch.float64, generator=random)
    ours, theirs = layer(x), written_out(layer, x)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    wanted = [x, *trained(layer)]
    got = torch.autograd.grad((ours * by).sum(), wanted)
    # Vanilla top-k may leave the assigned expert out: then it has no gradient.
    expected = torch.autograd.grad((theirs * by).sum(), wanted, materialize_grads=True, allow_unused=True)
    for mine, reference in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-9, atol=1e-9)


def test_any_leading_shape() -> None:
    layer = make(num_experts=3, assigned_expert=1)
    x = torch.randn(2, 3, D, dtype=torch.float64)
    torch.testing.assert_close(layer(x).reshape(6, L), layer(x.reshape(6, D)))
    assert layer(x[0, 0]).shape == (L,)
    assert layer(x[:0]).shape == (0, 3, L)


def test_dropout_reaches_the_experts_and_not_the_router(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = make(num_experts=3, assigned_expert=2, lora_dropout=0.5)
    x = torch.randn(5, D, dtype=torch.float64)
    dropped: list[Tensor] = []
    real = torch.nn.functional.dropout

    def dropout(x: Tensor, p: float) -> Tensor:
        dropped.append(real(x, p))
        return dropped[-1]

    monkeypatch.setattr("torch.nn.functional.dropout", dropout)
    layer.train()
    result = layer(x)
    assert (dropped[0] == 0).any()
    torch.testing.assert_close(result, written_out(layer, x, dropped[0]))
    layer.eval()
    torch.testing.assert_close(layer(x), written_out(layer, x))
    assert len(dropped) == 1


def test_one_expert_is_plain_lora() -> None:
    layer = make(num_experts=1, lora_alpha=6.0)
    assert not len(layer.fedlease_router)
    assert not len(layer.fedlease_frozen_A)
    x = torch.randn(3, D, dtype=torch.float64)
    A, B, _ = layer.read("default")
    torch.testing.assert_close(layer(x), layer.base_layer(x) + 3 * x @ A.T @ B.T)


def test_fresh_layers_change_nothing_and_prefer_the_assigned_expert() -> None:
    base = nn.Linear(D, L)
    x = torch.randn(3, D)
    layer = FedLeaseLayer(base, "default", FedLeaseConfig(r=2, num_experts=4))
    assert torch.equal(layer(x), base(x))
    assert layer.weights_of(x, "default").tolist() == [[pytest.approx(4 / 7), 0, 0, 0]] * 3
    assert layer.fedlease_A["default"].abs().max() <= D**-0.5
    assert layer.fedlease_A["default"].std() > 0.1 * D**-0.5
    drawn = FedLeaseLayer(base, "default", FedLeaseConfig(num_experts=4, router_init="normal"))
    assert drawn.fedlease_router["default"].std().item() == pytest.approx(0.02, rel=0.5)
    other = FedLeaseLayer(base, "default", FedLeaseConfig(r=2, init_lora_weights=False))
    assert not torch.equal(other(x), base(x))


@pytest.mark.parametrize("assigned", [0, 1, 2])
def test_load_and_read_keep_the_order_of_experts(assigned: int) -> None:
    layer = make(num_experts=3)
    before = trained(layer)
    A, B, router = torch.randn(3, 2, D), torch.randn(3, L, 2), torch.randn(5, D)
    layer.load("default", A, B, router, assigned)
    for given_, got in zip((A, B, router), layer.read("default"), strict=True):
        assert got is not None
        assert torch.equal(got, given_.double())
        assert not got.requires_grad
    assert torch.equal(layer.fedlease_A["default"], A[assigned].double())
    assert all(was is now for was, now in zip(before, trained(layer), strict=True))
    assert layer.configs["default"].assigned_expert == assigned
    # What is read is a copy.
    layer.read("default")[0].zero_()
    assert layer.read("default")[0].abs().sum() > 0


def test_load_and_read_of_one_expert() -> None:
    layer = make()
    A, B = torch.randn(2, D, dtype=torch.float64), torch.randn(L, 2, dtype=torch.float64)
    layer.load("default", A, B)
    got = layer.read("default")
    assert torch.equal(got[0], A)
    assert torch.equal(got[1], B)
    assert got[2] is None


def test_what_load_refuses_leaves_the_layer_as_it_was() -> None:
    layer = make(num_experts=3, assigned_expert=1)
    before = [tensor.clone() for tensor in layer.parameters()]
    A, B, router = torch.randn(3, 2, D), torch.randn(3, L, 2), torch.randn(5, D)
    for wrong in (
        (A[:2], B, router, 0),
        (A, B[..., :1], router, 0),
        (A, B, router[:3], 0),
        (A, B, None, 0),
        (A, B, router, 3),
    ):
        with pytest.raises(FedLeaseError):
            layer.load("default", *wrong)
    assert all(torch.equal(was, now) for was, now in zip(before, layer.parameters(), strict=True))
    assert layer.adapters["default"].assigned == 1
    with pytest.raises(FedLeaseError, match="router"):
        make().load("default", A[0], B[0], router)


def test_weights_of_are_in_expert_order_and_reproduce_the_output() -> None:
    layer = make(num_experts=4, assigned_expert=2, lora_alpha=2.0)
    x = torch.randn(2, 3, D, dtype=torch.float64)
    weights = layer.weights_of(x, "default")
    A, B, _ = layer.read("default")
    update = torch.einsum("...m,mlr,mrd,...d->...l", weights, B, A, x)
    torch.testing.assert_close(layer(x), layer.base_layer(x) + update)
    assert (weights[..., 2] > 0).all()
    assert torch.equal(make().weights_of(x, "default"), torch.ones(2, 3, 1, dtype=torch.float64))


def test_frozen_experts_survive_adamw_with_weight_decay_bit_by_bit() -> None:
    layer = make(torch.float32, num_experts=4, assigned_expert=1)
    before = [tensor.clone() for tensor in layer.read("default")]  # type: ignore[union-attr]
    for parameters in (layer.parameters(), (p for p in layer.parameters() if p.requires_grad)):
        optimiser = torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.5)
        for _ in range(3):
            optimiser.zero_grad()
            layer(torch.randn(8, D)).square().sum().backward()
            optimiser.step()
    assert layer.fedlease_frozen_A["default"].grad is None
    after = layer.read("default")
    for was, now in zip(before[:2], after[:2], strict=True):
        assert torch.equal(was[[0, 2, 3]], now[[0, 2, 3]])
        assert not torch.isclose(was[1], now[1]).any()
    assert not torch.isclose(before[2], after[2]).any()


def test_switching_adapters_never_trains_the_frozen_experts() -> None:
    layer = make(num_experts=3)
    layer.update_layer("second", FedLeaseConfig(r=1, num_experts=2))

    def training() -> set[str]:
        return {name for name, parameter in layer.named_parameters() if parameter.requires_grad}

    def own(adapter: str) -> set[str]:
        return {f"fedlease_{part}.{adapter}" for part in ("A", "B", "router")}

    steps: list[tuple[Callable[[], None], set[str]]] = [
        (lambda: None, own("default")),
        (lambda: layer.set_adapter("second"), own("second")),
        (lambda: layer.set_adapter(["default", "second"]), own("default") | own("second")),
        (lambda: layer.set_adapter("default", inference_mode=True), set()),
        (lambda: layer.set_requires_grad("default", True), own("default")),
        (lambda: layer.enable_adapters(False), set()),
        (lambda: layer.enable_adapters(True), own("default")),
    ]
    for step, wanted in steps:
        step()
        assert training() == wanted


def test_active_adapters_add_up_and_can_be_deleted() -> None:
    layer = make(num_experts=3)
    layer.update_layer("second", FedLeaseConfig(r=1, init_lora_weights=False))
    x = torch.randn(2, D, dtype=torch.float64)
    base = layer.base_layer(x)
    first = layer(x) - base
    layer.set_adapter("second")
    second = layer(x) - base
    assert second.abs().min() > 0
    layer.set_adapter(["default", "second"])
    torch.testing.assert_close(layer(x), base + first + second)
    layer.delete_adapter("second")
    torch.testing.assert_close(layer(x), base + first)
    assert "second" not in layer.adapters
    layer.enable_adapters(False)
    assert torch.equal(layer(x), base)
