"""A frozen companion beside an adapter, and one A for all experts: against the formula in float64."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from tuner_layers import D, L, drawn
from tuner_models import tiny

from fedlease.core.adapter import Adapter, Model
from fedlease.core.errors import FedLeaseError
from fedlease.tuner import FedLeaseConfig, FedLeaseLayer
from fedlease.tuner.export import read_lora, save_lora, save_mixture

R = 3


def make(adapter: Adapter) -> FedLeaseLayer:
    """A float64 layer all of whose weights are random."""
    torch.manual_seed(1)
    base = nn.Linear(D, L, dtype=torch.float64)
    return drawn(FedLeaseLayer(base, "default", FedLeaseConfig.of(adapter, ["x"])))


def test_a_frozen_companion_is_added_as_it_is() -> None:
    layer = make(Adapter(2, 6.0, fixed=R))
    x = torch.randn(3, D, dtype=torch.float64)
    a, b = layer.fedlease_A["default"], layer.fedlease_B["default"]
    fixed = layer.fedlease_fixed_B["default"] @ layer.fedlease_fixed_A["default"]
    expected = layer.base_layer(x) + x @ (3.0 * b @ a + fixed).T
    torch.testing.assert_close(layer(x), expected)
    layer(x).sum().backward()
    assert a.grad is not None
    assert layer.fedlease_fixed_A["default"].grad is None


def test_a_companion_of_another_rank_takes_its_place() -> None:
    layer = make(Adapter(2, 6.0, fixed=1))
    a, b, _ = layer.read("default")
    fixed = torch.randn(R, D, dtype=torch.float64), torch.randn(L, R, dtype=torch.float64)
    layer.load("default", a, b, fixed=fixed)
    x = torch.randn(3, D, dtype=torch.float64)
    torch.testing.assert_close(layer(x), layer.base_layer(x) + x @ (3.0 * b @ a + fixed[1] @ fixed[0]).T)
    layer.merge()
    torch.testing.assert_close(layer(x), layer.base_layer(x))
    layer.unmerge()
    with pytest.raises(FedLeaseError, match="frozen companion"):
        layer.load("default", a, b)


@pytest.mark.parametrize("assigned", [0, 2])
def test_experts_that_share_a(assigned: int) -> None:
    layer = make(Adapter(2, 6.0, experts=3, assigned=assigned, top_k=3, shared_a=True))
    a, b, router = layer.read("default")
    assert a.shape == (2, D)
    assert b.shape == (3, L, 2)
    assert router is not None
    x = torch.randn(6, D, dtype=torch.float64)
    order = [assigned, *(j for j in range(3) if j != assigned)]  # slot 0 is the assigned expert's
    a.requires_grad_()
    rows = []
    for token in x:
        omega = torch.softmax(router @ token, 0)
        mixed = sum(omega[slot] * b[j] @ (a @ token) for slot, j in enumerate(order))
        rows.append(layer.base_layer(token) + 3.0 * mixed)
    expected = torch.stack(rows)
    torch.testing.assert_close(layer(x), expected)
    by = torch.randn(6, L, dtype=torch.float64)
    (mine,) = torch.autograd.grad((layer(x) * by).sum(), [layer.fedlease_A["default"]])
    (theirs,) = torch.autograd.grad((expected * by).sum(), [a])
    torch.testing.assert_close(mine, theirs)  # A learns through every B


def test_what_is_loaded_is_read_again() -> None:
    layer = make(Adapter(2, experts=3, assigned=1, shared_a=True, top_k=3))
    a, b, router = (t + 1 for t in layer.read("default") if t is not None)
    layer.load("default", a, b, router, assigned=2)
    for mine, given in zip(layer.read("default"), (a, b, router), strict=True):
        assert torch.equal(mine, given)  # type: ignore[arg-type]


def weights_of(adapter: Adapter, modules: dict[str, tuple[int, int]]) -> dict[str, Tensor]:
    torch.manual_seed(2)
    found = {}
    for name, (outputs, inputs) in modules.items():
        found[f"{name}.A"] = torch.randn(adapter.rank, inputs)
        found[f"{name}.B"] = torch.randn(outputs, adapter.rank)
        if adapter.fixed:
            found[f"{name}.fixed_A"] = torch.randn(adapter.fixed, inputs)
            found[f"{name}.fixed_B"] = torch.randn(outputs, adapter.fixed)
        if adapter.experts > 1:
            found[f"{name}.B"] = torch.randn(adapter.experts, outputs, adapter.rank)
            found[f"{name}.router"] = torch.randn(adapter.slots, inputs)
    return found


MODULES = {
    f"bert.encoder.layer.{n}.attention.self.{m}": (16, 16) for n in range(2) for m in ("query", "value")
}


def test_a_companion_is_exported_as_stock_lora(tmp_path: Path) -> None:
    adapter = Adapter(2, 6.0, fixed=R)
    weights = weights_of(adapter, MODULES)
    save_lora(Model(adapter, weights), tmp_path, "tiny")
    read = read_lora(tmp_path)
    for name in MODULES:
        expected = 3.0 * weights[f"{name}.B"] @ weights[f"{name}.A"]
        expected += weights[f"{name}.fixed_B"] @ weights[f"{name}.fixed_A"]
        torch.testing.assert_close(read[f"{name}.B"] @ read[f"{name}.A"], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "adapter", [Adapter(2, experts=3, assigned=1, top_k=3, shared_a=True), Adapter(2, fixed=R)]
)
def test_peft_loads_what_was_saved(adapter: Adapter, tmp_path: Path) -> None:
    weights = weights_of(adapter, MODULES)
    save_mixture(Model(adapter, weights), tmp_path, "tiny")
    loaded = PeftModel.from_pretrained(tiny("bert"), str(tmp_path))
    for path, layer in loaded.base_model.model.named_modules():
        if isinstance(layer, FedLeaseLayer):
            assert layer.adapters["default"] == adapter
            a, b, _ = layer.read("default")
            assert torch.equal(a, weights[f"{path}.A"])
            assert torch.equal(b, weights[f"{path}.B"])
            if adapter.fixed:
                assert torch.equal(layer.fedlease_fixed_A["default"], weights[f"{path}.fixed_A"])
