"""Quantised bases: what is quantised, what is not, and what cannot be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from adapted import KINDS, ids, load
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoTokenizer
from tuner_models import tiny as made

from fedlease.core.errors import FedLeaseError
from fedlease.training import quantization
from fedlease.training.quantization import is_quantised, stored
from fedlease.training.shapes import count

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


pytestmark = pytest.mark.usefixtures("quantising")


def problem(folder: Path | str, kind: str, **options: Any) -> str:
    with pytest.raises(FedLeaseError) as caught:
        load(folder, kind, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_linear_modules_are_quantised_and_nothing_else(kind: str, precision: str, llama: Path) -> None:
    base, plain = load(llama, kind, precision), load(llama, "none", precision)
    named = dict(base.model.named_parameters())
    layers = {f"model.layers.{n}" for n in range(2)}
    quantised = {name for name, parameter in named.items() if is_quantised(parameter)}
    assert quantised == {
        f"{layer}.{'self_attn' if name[0] in 'qkvo' else 'mlp'}.{name}.weight"
        for layer in layers
        for name in LINEAR
    }
    for name, parameter in plain.model.named_parameters():
        if name not in quantised:
            assert torch.equal(parameter, named[name])
    assert base.modules == plain.modules
    assert count(base.model) == count(plain.model) == sum(p.numel() for p in plain.model.parameters())


def bytes_of(model: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for _, tensor in stored(model))


def test_what_it_saves(llama: Path) -> None:
    embeddings, linear = 257 * 64, 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 128)
    held = {kind: bytes_of(load(llama, kind).model) for kind in KINDS}
    whole = bytes_of(load(llama).model)
    assert whole == 4 * count(load(llama).model)
    rest = whole - 4 * linear
    assert rest == 4 * (embeddings + 5 * 64)
    assert held["bnb-8bit"] - rest == pytest.approx(linear, rel=0.1)
    assert held["torchao-int8"] - rest == pytest.approx(linear, rel=0.1)
    beside = held["bnb-4bit"] - rest - linear / 2
    assert linear / 64 < beside < linear / 64 + 14 * 1500  # a byte for 64 numbers, and tables a module


@pytest.mark.parametrize(("kind", "steps"), [("bnb-8bit", 127), ("torchao-int8", 127.5)])
def test_eight_bits_are_the_rounded_rows(kind: str, steps: float, llama: Path) -> None:
    name = "model.layers.0.self_attn.q_proj"
    weight = load_file(llama / "model.safetensors")[f"{name}.weight"].double()
    scale = weight.abs().amax(1, keepdim=True) / steps
    held = dict(stored(load(llama, kind).model))
    codes = held[f"{name}.weight" if kind == "bnb-8bit" else f"{name}.weight.qdata"]
    assert codes.dtype == torch.int8
    torch.testing.assert_close(codes.double(), weight / scale, rtol=0, atol=0.57)  # bitsandbytes has fp16


def test_fingerprints_tell_them_apart(llama: Path) -> None:
    found = {kind: load(llama, kind).fingerprint for kind in ("none", *KINDS)}
    assert len(set(found.values())) == 4
    assert all(load(llama, kind).fingerprint == found[kind] for kind in KINDS)


@pytest.mark.parametrize("kind", ["bnb-8bit", "bnb-4bit"])
def test_fingerprints_see_scales(kind: str, llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(llama, tmp_path / "model"))
    held = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    save_file(held | {name: 2 * held[name]}, folder / "model.safetensors", metadata={"format": "pt"})
    one, other = (dict(stored(load(place, kind).model)) for place in (llama, folder))
    assert torch.equal(one[name], other[name])
    assert load(folder, kind).fingerprint != load(llama, kind).fingerprint


@pytest.mark.parametrize("kind", KINDS)
def test_heads_are_those_of_the_base_as_it_is(kind: str, tiny: Path) -> None:
    base, plain = (load(tiny, each, labels=[2, 3], seed=4) for each in (kind, "none"))
    assert base.head_name == plain.head_name == "classifier"
    for labels, head in base.heads.items():
        for (name, one), other in zip(head.named_parameters(), plain.heads[labels].parameters(), strict=True):
            assert not is_quantised(one), name
            assert torch.equal(one, other)
    assert sum(map(is_quantised, base.model.parameters())) == 2 * 6 + 1  # the layers', and the pooler's


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_checkpoint_lacks_is_drawn_and_not_quantised(kind: str, tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    held = load_file(folder / "model.safetensors")
    whole = {
        name: tensor for name, tensor in held.items() if not name.startswith(("bert.pooler", "classifier"))
    }
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})
    base, plain = (load(folder, each, labels=[2], seed=4) for each in (kind, "none"))
    assert base.drawn.keys() == plain.drawn.keys() == {f"bert.pooler.dense.{n}" for n in ("bias", "weight")}
    assert all(torch.equal(tensor, plain.drawn[name]) for name, tensor in base.drawn.items())
    assert sum(map(is_quantised, base.model.parameters())) == 2 * 6
    logits = base.model.eval()(ids()).logits
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_that_is_quantised_already(kind: str, llama: Path, tmp_path: Path) -> None:
    first = load(llama, kind)
    first.model.save_pretrained(tmp_path)  # type: ignore[operator]
    first.tokenizer.save_pretrained(tmp_path)
    same = load(tmp_path, kind)
    assert torch.equal(same.model(ids()).logits, first.model(ids()).logits)
    for other in {"none", *KINDS} - {kind}:
        assert problem(tmp_path, other) == (
            f"model {tmp_path}: its checkpoint is quantised already, by {kind}: set model.quantization = "
            f'"{kind}", or name the model it was made from'
        )


def test_a_checkpoint_quantised_by_something_else(llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(llama, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "quantization_config": {"quant_method": "gptq", "bits": 4}})
    )
    assert problem(folder, "none") == (
        f"model {folder}: its checkpoint is quantised already, by gptq: name the model it was made from"
    )


@pytest.mark.parametrize(
    ("kind", "missing"),
    [("bnb-4bit", "bitsandbytes"), ("torchao-int8", "torchao"), ("bnb-8bit", "accelerate")],
)
def test_a_library_that_is_not_there(
    kind: str, missing: str, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = quantization.find_spec
    monkeypatch.setattr(quantization, "find_spec", lambda name: None if name == missing else there(name))
    assert problem(llama, kind) == (
        f"model.quantization is {kind}, and {missing} is not installed: pip install 'fedlease[quantization]'"
    )


def test_a_model_with_nothing_to_quantise(tiny_llama: Path, tmp_path: Path) -> None:
    made("gpt2").save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_llama).save_pretrained(tmp_path)
    says = "it has no linear module that torchao-int8 can quantise"
    assert problem(tmp_path, "torchao-int8") == f"model {tmp_path}: {says}"
    modules = load(tmp_path, "bnb-8bit").modules
    assert modules == load(tmp_path).modules == {f"transformer.h.{n}.attn.c_attn": (48, 16) for n in range(2)}
