"""Gradient checkpointing: the same gradients from fewer activations."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from adapted import KINDS, adapted, gradients, ids, load
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GPT2Config, GPT2LMHeadModel

from fedlease.core.errors import FedLeaseError
from fedlease.training.base import Base
from fedlease.training.quantization import stored


class Peak(TorchDispatchMode):
    """Counts the bytes of all that is made while it is open, at their most."""

    def __init__(self, there: Iterable[Tensor]) -> None:
        super().__init__()
        self.now = self.most = 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in there}  # views of these are not made

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(found):
            if isinstance(tensor, Tensor) and tensor.device.type == "cpu":
                self._count(tensor.untyped_storage())
        return found

    def _count(self, storage: torch.UntypedStorage) -> None:
        place = storage._cdata
        if place in self._seen:
            return
        size = storage.nbytes()
        self._seen.add(place)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._gone, place, size)

    def _gone(self, place: int, size: int) -> None:
        self._seen.discard(place)
        self.now -= size


def peak(network: nn.Module) -> int:
    """Bytes at the height of a training step, beside model and adapter."""
    network.zero_grad()
    rows = ids(8, 64)
    with Peak(tensor for _, tensor in stored(network)) as counted:
        network(input_ids=rows).logits.float().square().mean().backward()
    return counted.most


def base_of(kind: str, minilm: str, llama: Path, **options: Any) -> Base:
    if kind == "encoder":
        return load(minilm, labels=[2], **options)
    return load(llama, **options)


def both(make: Callable[..., Base], experts: int, labels: int) -> list[tuple[nn.Module, list[nn.Parameter]]]:
    return [adapted(make(gradient_checkpointing=way), experts, labels) for way in (False, True)]


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("experts", [1, 3])
@pytest.mark.parametrize("kind", ["causal", "encoder"])
def test_the_same_gradients(kind: str, experts: int, dropout: float, llama: Path, minilm: str) -> None:
    def make(**options: Any) -> Base:
        return base_of(kind, minilm, llama, dropout=dropout, **options)

    found = []
    for network, parameters in both(make, experts, 2 if kind == "encoder" else 0):
        torch.manual_seed(5)
        found.append(gradients(network, parameters))
    assert all(gradient.any() for gradient in found[0])
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("kind", ["causal", "encoder"])
def test_fewer_activations(kind: str, llama: Path, minilm: str) -> None:
    kept, anew = (
        peak(network)
        for network, _ in both(
            lambda **options: base_of(kind, minilm, llama, **options), 3, 2 if kind == "encoder" else 0
        )
    )
    assert anew < (0.4 if kind == "encoder" else 0.6) * kept  # six layers, and two


@pytest.mark.usefixtures("quantising")
@pytest.mark.parametrize("kind", KINDS)
def test_on_quantised_bases(kind: str, llama: Path) -> None:
    (kept, parameters), (anew, others) = both(lambda **options: load(llama, kind, **options), 3, 0)
    assert all(map(torch.equal, gradients(kept, parameters), gradients(anew, others)))
    assert peak(anew) < 0.6 * peak(kept)


def test_nothing_is_made_anew_in_evaluation(llama: Path) -> None:
    network, _ = adapted(load(llama, gradient_checkpointing=True), 3)
    with torch.inference_mode():
        first = network.eval()(input_ids=ids(), use_cache=True)
    assert first.past_key_values is not None


def test_a_model_that_cannot(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GPT2LMHeadModel, "supports_gradient_checkpointing", False)
    GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=257)).save_pretrained(tmp_path)
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(tiny_llama).save_pretrained(tmp_path)
    with pytest.raises(FedLeaseError) as caught:
        load(tmp_path, gradient_checkpointing=True)
    assert str(caught.value) == (
        f"model {tmp_path}: transformers has no gradient checkpointing for gpt2 models: leave "
        "model.gradient_checkpointing out"
    )
