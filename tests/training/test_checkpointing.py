"""Gradient checkpointing: the same gradients from fewer activations."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from adapted import KINDS, adapted, gradients, ids, load
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from fedlease.core.errors import FedLeaseError
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


def both(
    folder: Path | str, labels: int = 0, experts: int = 3, **options: Any
) -> list[tuple[nn.Module, list[nn.Parameter]]]:
    """The same adapter on the same base, without and with checkpointing; labels make it a classifier."""
    heads = {"labels": [labels]} if labels else {}
    bases = [load(folder, gradient_checkpointing=way, **heads, **options) for way in (False, True)]
    return [adapted(base, experts, labels) for base in bases]


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("experts", [1, 3])
@pytest.mark.parametrize("labels", [0, 2])
def test_the_same_gradients(labels: int, experts: int, dropout: float, llama: Path, minilm: str) -> None:
    found = []
    for network, parameters in both(minilm if labels else llama, labels, experts, dropout=dropout):
        torch.manual_seed(5)
        found.append(gradients(network, parameters))
    assert all(gradient.any() for gradient in found[0])
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize(("labels", "share"), [(0, 0.6), (2, 0.4)])
def test_fewer_activations(labels: int, share: float, llama: Path, minilm: str) -> None:
    kept, anew = (peak(network) for network, _ in both(minilm if labels else llama, labels))
    assert anew < share * kept  # of two layers, and of six


@pytest.mark.usefixtures("quantising")
@pytest.mark.parametrize("kind", KINDS)
def test_on_quantised_bases(kind: str, llama: Path) -> None:
    (kept, parameters), (anew, others) = both(llama, kind=kind)
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
    AutoTokenizer.from_pretrained(tiny_llama).save_pretrained(tmp_path)
    with pytest.raises(FedLeaseError) as caught:
        load(tmp_path, gradient_checkpointing=True)
    assert str(caught.value) == (
        f"model {tmp_path}: transformers has no gradient checkpointing for gpt2 models: leave "
        "model.gradient_checkpointing out"
    )
