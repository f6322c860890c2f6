"""Training on quantised bases: gradients, what evaluation leaves behind, what stays frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from adapted import KINDS, adapted, gradients, ids, load
from safetensors.torch import load_file
from torch import Tensor

from fedlease.core.errors import FedLeaseError
from fedlease.training import quantization
from fedlease.training.base import Base
from fedlease.training.quantization import stored

pytestmark = pytest.mark.usefixtures("quantising")


@pytest.mark.parametrize("kind", KINDS)
def test_a_module_computes_with_what_is_stored(kind: str, llama: Path) -> None:
    name = "model.layers.1.mlp.up_proj"
    module = load(llama, kind).model.get_submodule(name)
    weight = load_file(llama / "model.safetensors")[f"{name}.weight"].double()
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(2))
    exact = x.double() @ weight.T
    error = (module(x).double() - exact).norm() / exact.norm()
    assert error < (0.12 if kind == "bnb-4bit" else 0.01)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_the_same_after_an_evaluation(kind: str, precision: str, llama: Path) -> None:
    network, parameters = adapted(load(llama, kind, precision))
    before = gradients(network, parameters)
    assert len(before) == len(parameters) == 8
    assert all(gradient.any() for gradient in before)
    with torch.inference_mode():
        network.eval()(ids())
    network.train()
    assert all(map(torch.equal, gradients(network, parameters), before))


@pytest.mark.filterwarnings("ignore:bitsandbytes..gemv_4bit")  # torch says so once, where it is listened to
def test_four_bits_stop_training_where_that_is_not_seen_to(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bitsandbytes.functional import has_avx512bf16

    if not has_avx512bf16():
        pytest.skip("this CPU has no AVX512-BF16: bitsandbytes does not repack 4-bit weights on it")
    monkeypatch.setattr(quantization, "_mend", lambda module, device: None)
    network, parameters = adapted(load(llama, "bnb-4bit"))
    before = gradients(network, parameters)
    with torch.inference_mode():
        network.eval()(ids())
    after = gradients(network.train(), parameters)
    assert all(gradient.any() for gradient in before)
    assert not any(gradient.any() for gradient in after)


@torch.inference_mode()
def in_all_ways(base: Base) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of a batch in training, in evaluation, and of its rows alone, relative to the largest."""
    model: Any = base.model
    model.get_input_embeddings().weight[:, :5] *= 40  # outliers, which bitsandbytes treats apart
    training, together = model.train()(ids()).logits, model.eval()(ids()).logits
    alone = torch.cat([model(row.unsqueeze(0)).logits for row in ids()])
    most = together.abs().max()
    return training / most, together / most, alone / most


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_is_as_training_and_rows_are_their_own(kind: str, llama: Path) -> None:
    training, together, alone = in_all_ways(load(llama, kind))
    assert torch.equal(together, training)
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)


def test_eight_bits_mix_rows_where_that_is_not_seen_to(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "_mend", lambda module, device: None)
    training, together, alone = in_all_ways(load(llama, "bnb-8bit"))
    assert (together - training).abs().max() > 1e-3
    assert (together - alone).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_frozen_stays_bit_for_bit(kind: str, llama: Path) -> None:
    base = load(llama, kind)
    before = {name: tensor.clone() for name, tensor in stored(base.model)}
    network, parameters = adapted(base)
    optimizer = torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.1)
    losses = []
    for _ in range(4):
        loss = network.train()(ids(), labels=ids()).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        with torch.inference_mode():
            network.eval()(ids())
    assert losses[-1] < losses[0]
    after = {name.replace(".base_layer", ""): tensor for name, tensor in stored(network)}
    assert before.keys() <= after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_merged_into_it(kind: str, llama: Path) -> None:
    network, _ = adapted(load(llama, kind))
    layer: Any = network.get_submodule("model.layers.0.self_attn.q_proj")
    with pytest.raises(FedLeaseError, match="nothing can be merged into the weight of a Linear"):
        layer.merge()
