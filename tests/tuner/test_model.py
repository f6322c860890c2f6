"""The tuner inside PEFT: whole models, saving and loading, switching, generating."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from torch import Tensor, nn
from tuner_models import randomise, tiny, tokens

from fedlease.core.errors import FedLeaseError
from fedlease.tuner import FedLeaseConfig, FedLeaseLayer

DEFAULT_TARGETS = {
    "bert": ("query", "value"),
    "roberta": ("query", "value"),
    "llama": ("q_proj", "v_proj"),
    "gpt2": ("c_attn",),
}


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(**tokens()).logits


def adapted(kind: str = "bert", **options: object) -> PeftModel:
    options = {"r": 2, "num_experts": 3, "assigned_expert": 1} | options
    model = get_peft_model(tiny(kind), FedLeaseConfig(**options))
    randomise(model)
    return model.eval()


def trainable(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("kind", DEFAULT_TARGETS)
def test_default_targets_and_what_trains(kind: str) -> None:
    base = logits(tiny(kind))
    model = get_peft_model(tiny(kind), FedLeaseConfig(r=2, num_experts=3)).eval()
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, FedLeaseLayer)}
    assert len(layers) == 2 * len(DEFAULT_TARGETS[kind])
    assert all(name.endswith(DEFAULT_TARGETS[kind]) for name in layers)
    assert trainable(model) == {
        f"{name}.fedlease_{part}.default" for name in layers for part in ("A", "B", "router")
    }
    assert torch.equal(logits(model), base)
    randomise(model)
    assert not torch.allclose(logits(model), base)
    with model.disable_adapter():
        assert torch.equal(logits(model), base)
        assert not trainable(model)
    assert not torch.allclose(logits(model), base)
    assert not any("frozen" in name for name in trainable(model))
    model(**tokens()).logits.sum().backward()
    assert all(model.get_parameter(name).grad.abs().sum() > 0 for name in trainable(model))


@pytest.mark.parametrize("experts", [1, 12])
@pytest.mark.parametrize("kind", ["roberta", "gpt2"])
def test_saved_and_loaded_again(tmp_path: Path, kind: str, experts: int) -> None:
    options = {} if experts == 1 else {"top_k": 3, "normalize_weights": True}
    model = adapted(kind, num_experts=experts, assigned_expert=experts // 2, lora_alpha=5.0, **options)
    model.save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(tiny(kind), str(tmp_path)).eval()
    assert torch.equal(logits(loaded), logits(model))
    assert not trainable(loaded)
    again = PeftModel.from_pretrained(tiny(kind), str(tmp_path), is_trainable=True, low_cpu_mem_usage=True)
    assert torch.equal(logits(again.eval()), logits(model))
    assert trainable(again) == trainable(model)


def test_saved_after_the_assigned_expert_changed(tmp_path: Path) -> None:
    model = adapted(num_experts=3, assigned_expert=0)
    for layer in model.modules():
        if isinstance(layer, FedLeaseLayer):
            layer.load("default", *layer.read("default"), assigned=2)
    model.save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(tiny("bert"), str(tmp_path)).eval()
    assert loaded.peft_config["default"].assigned_expert == 2
    assert torch.equal(logits(loaded), logits(model))


def test_keys_of_the_state_dict_carry_no_adapter_name() -> None:
    keys = set(get_peft_model_state_dict(adapted("llama")))
    parts = ("A", "B", "router", "frozen_A", "frozen_B")
    assert keys == {
        f"base_model.model.model.layers.{layer}.self_attn.{which}_proj.fedlease_{part}"
        for layer in (0, 1)
        for which in "qv"
        for part in parts
    }


def test_one_expert_equals_stock_lora() -> None:
    ours = adapted("llama", num_experts=1, assigned_expert=0, lora_alpha=6)
    stock = get_peft_model(tiny("llama"), LoraConfig(r=2, lora_alpha=6)).eval()
    theirs = dict(stock.named_parameters())
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if "fedlease_" in name:
                key = name.replace("fedlease_", "lora_") + ".weight"
                theirs[key].copy_(parameter)
    assert torch.equal(logits(ours), logits(stock))
    assert not torch.allclose(logits(ours), logits(tiny("llama")))
    merged = ours.merge_and_unload()
    torch.testing.assert_close(logits(merged), logits(stock), rtol=1e-4, atol=1e-5)


def test_a_second_adapter_and_switching(tmp_path: Path) -> None:
    model = adapted("bert", target_modules="all-linear", task_type="SEQ_CLS")
    first, base = logits(model), logits(tiny("bert"))
    before = trainable(model)
    model.add_adapter(
        "other", FedLeaseConfig(r=1, num_experts=2, target_modules="all-linear", task_type="SEQ_CLS")
    )
    layers = [layer for layer in model.modules() if isinstance(layer, FedLeaseLayer)]
    assert len(layers) == 13  # 6 in each of 2 layers, and the pooler
    assert all(set(layer.adapters) == {"default", "other"} for layer in layers)
    assert not {name for name in trainable(model) ^ before if "classifier" not in name}
    assert torch.equal(logits(model), first)
    model.set_adapter("other")
    assert torch.equal(logits(model), base)
    assert not any("frozen" in name or "fedlease_A.default" in name for name in trainable(model))
    model.set_adapter("default")
    assert torch.equal(logits(model), first)
    model.delete_adapter("other")
    assert torch.equal(logits(model), first)
    with pytest.raises(FedLeaseError, match="experts"):
        model.merge_adapter()


def test_a_second_adapter_on_other_modules_waits_to_be_activated() -> None:
    model = adapted("llama", target_modules=["q_proj"])
    first, before = logits(model), trainable(model)
    model.add_adapter("other", FedLeaseConfig(r=1, target_modules=["o_proj"], init_lora_weights=False))
    assert trainable(model) == before
    assert torch.equal(logits(model), first)
    model.set_adapter("other")
    assert all("o_proj" in name for name in trainable(model))
    assert len(trainable(model)) == 4
    assert not torch.allclose(logits(model), first)


def test_layers_can_be_chosen() -> None:
    model = adapted(
        "llama", target_modules=["q_proj", "o_proj"], exclude_modules=["o_proj"], layers_to_transform=[1]
    )
    names = [name for name, layer in model.named_modules() if isinstance(layer, FedLeaseLayer)]
    assert names == ["base_model.model.model.layers.1.self_attn.q_proj"]


def test_module_that_cannot_be_adapted_is_named() -> None:
    with pytest.raises(FedLeaseError, match=r"word_embeddings: a Embedding"):
        get_peft_model(tiny("bert"), FedLeaseConfig(target_modules=["word_embeddings"]))


def test_generate_with_and_without_cache() -> None:
    model = adapted("llama")
    ids = tokens(2, 4)
    made = model.generate(**ids, max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=None)
    slow = model.generate(
        **ids, max_new_tokens=6, do_sample=False, use_cache=False, pad_token_id=0, eos_token_id=None
    )
    assert torch.equal(made, slow)
    plain = tiny("llama").generate(
        **ids, max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=None
    )
    assert not torch.equal(made, plain)


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = adapted("llama")
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            assert model.is_gradient_checkpointing
        model(**tokens(), labels=tokens()["input_ids"]).loss.backward()
        gradients.append({name: model.get_parameter(name).grad for name in trainable(model)})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name])
        assert gradient.abs().sum() > 0


def test_bfloat16_base_keeps_float32_adapters() -> None:
    model = get_peft_model(tiny("llama").to(torch.bfloat16), FedLeaseConfig(r=2, num_experts=3))
    randomise(model)
    model(**tokens(), labels=tokens()["input_ids"]).loss.backward()
    for name in trainable(model):
        parameter = model.get_parameter(name)
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().sum() > 0


def test_modules_to_save_train_and_travel(tmp_path: Path) -> None:
    model = adapted("bert", modules_to_save=["classifier"])
    head = [name for name in trainable(model) if "classifier" in name]
    assert len(head) == 2
    with torch.no_grad():
        for name in head:
            model.get_parameter(name).add_(1.0)
    model.save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(tiny("bert"), str(tmp_path)).eval()
    assert torch.equal(logits(loaded), logits(model))


def test_transformers_loads_an_adapter_by_itself(tmp_path: Path) -> None:
    model = adapted("llama")
    model.save_pretrained(str(tmp_path))
    plain = tiny("llama")
    plain.load_adapter(str(tmp_path))
    assert torch.equal(logits(plain.eval()), logits(model))


def test_copies_are_independent() -> None:
    model = adapted("bert")
    wanted = logits(model)
    other = copy.deepcopy(model)
    randomise(other, seed=9)
    assert not torch.equal(logits(other), wanted)
    assert torch.equal(logits(model), wanted)
