"""The layer on bases of every kind: low precision, autocast, quantised, merged, compiled."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D
from tuner_layers import D, L, make, trained, written_out

from fedlease.core.errors import FedLeaseError
from fedlease.tuner import FedLeaseConfig, FedLeaseLayer


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_base_trains_float32_parameters(dtype: torch.dtype) -> None:
    layer = make(num_experts=3, base=nn.Linear(D, L, dtype=dtype))
    exact = make(num_experts=3, base=nn.Linear(D, L, dtype=torch.float64))
    exact.load_state_dict(layer.state_dict())
    x = torch.randn(6, D).to(dtype)
    y = layer(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), exact(x.double()), rtol=0.1, atol=0.3)
    y.float().square().sum().backward()
    exact(x.double()).square().sum().backward()
    for mine, theirs in zip(trained(layer), trained(exact), strict=True):
        assert mine.dtype == mine.grad.dtype == torch.float32
        assert torch.isfinite(mine.grad).all()
        cosine = torch.cosine_similarity(mine.grad.double().flatten(), theirs.grad.flatten(), 0)
        assert cosine > 0.99


def test_autocast() -> None:
    layer = make(torch.float32, num_experts=3)
    x = torch.randn(6, D)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    torch.testing.assert_close(y.float(), layer(x), rtol=0.1, atol=0.5)
    y.float().sum().backward()
    assert layer.fedlease_A["default"].grad.dtype == torch.float32


class Int8Linear(nn.Module):
    """Stands for any quantised linear: an integer weight that only its own forward can use."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.scale = linear.weight.detach().abs().max() / 127
        self.register_buffer("weight", (linear.weight.detach() / self.scale).round().to(torch.int8))

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.weight.to(x.dtype) * self.scale.to(x.dtype)).T


def test_quantised_base() -> None:
    layer = make(num_experts=3, base=Int8Linear(nn.Linear(D, L)))
    x = torch.randn(4, D)
    assert layer.fedlease_A["default"].dtype == torch.float32
    torch.testing.assert_close(layer(x), written_out(layer, x))
    layer(x).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in trained(layer))
    single = make(base=Int8Linear(nn.Linear(D, L)))
    with pytest.raises(FedLeaseError, match="Int8Linear"):
        single.merge()
    assert not single.merged


@pytest.mark.parametrize("conv", [False, True])
def test_merging_one_expert(conv: bool) -> None:
    layer = make(base=Conv1D(L, D) if conv else None, dtype=torch.float64).double()
    x = torch.randn(3, D, dtype=torch.float64)
    wanted, base = layer(x), layer.base_layer(x)
    assert not torch.allclose(wanted, base)
    layer.merge(safe_merge=True)
    layer.merge()
    torch.testing.assert_close(layer(x), wanted)
    torch.testing.assert_close(layer.base_layer(x), wanted)
    layer.unmerge()
    torch.testing.assert_close(layer.base_layer(x), base)
    torch.testing.assert_close(layer(x), wanted)
    layer.merge()
    layer.enable_adapters(False)
    torch.testing.assert_close(layer(x), base)


def test_a_mixture_cannot_be_merged() -> None:
    layer = make(num_experts=3)
    weight = layer.base_layer.weight.clone()
    with pytest.raises(FedLeaseError, match="3 experts"):
        layer.merge()
    assert torch.equal(weight, layer.base_layer.weight)


def test_a_broken_adapter_is_not_merged_safely() -> None:
    layer = make()
    with torch.no_grad():
        layer.fedlease_B["default"][0, 0] = torch.nan
    with pytest.raises(FedLeaseError, match="finite"):
        layer.merge(safe_merge=True)


def test_modules_that_are_not_linear_are_refused() -> None:
    with pytest.raises(FedLeaseError, match="Embedding"):
        FedLeaseLayer(nn.Embedding(3, 4), "default", FedLeaseConfig())


def test_compiles_without_graph_breaks() -> None:
    layer = make(torch.float32, num_experts=4, assigned_expert=1)
    x = torch.randn(3, D)
    compiled = torch.compile(copy.deepcopy(layer), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))
