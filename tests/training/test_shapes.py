"""Which modules are adapted, and models built from numbers alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification
from transformers.pytorch_utils import Conv1D
from tuner_models import tiny

from fedlease.core.errors import FedLeaseError
from fedlease.training import shapes
from fedlease.training.models import KNOWN, config_of
from fedlease.training.shapes import count, modules_of, on_meta

BERT = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 40,
}


def test_defaults_of_an_architecture() -> None:
    assert modules_of(tiny("gpt2")) == {f"transformer.h.{n}.attn.c_attn": (48, 16) for n in range(2)}
    assert modules_of(tiny("llama"))["model.layers.0.self_attn.v_proj"] == (8, 16)


def test_the_head_is_left_out() -> None:
    model = tiny("bert")
    assert isinstance(model, BertForSequenceClassification)
    assert all(not path.startswith("classifier") for path in modules_of(model, ["dense"]))
    with pytest.raises(FedLeaseError, match="head aside, is called 'classifier'"):
        modules_of(model, ["query", "classifier"])


def test_a_default_that_is_a_pattern_asks_for_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shapes.DEFAULT_TARGETS, "bert", r".*\.(query|value)")
    with pytest.raises(FedLeaseError, match=r"name model\.targets: no default .*'bert'"):
        modules_of(tiny("bert"))
    assert len(modules_of(tiny("bert"), ["query"])) == 2


class Quantised(nn.Module):
    """What GPTQ kernels call their sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.infeatures, self.outfeatures = 5, 3


def test_every_linear_module_the_layer_wraps_is_found() -> None:
    model: Any = nn.ModuleDict(
        {"a": nn.ModuleDict({"q": nn.Linear(5, 3)}), "b": nn.ModuleDict({"q": Conv1D(3, 5)})}
        | {"c": nn.ModuleDict({"q": Quantised()}), "d": nn.ModuleDict({"q": nn.Embedding(5, 3)})}
    )
    model.config = BertConfig()
    assert modules_of(model, ["q"]) == dict.fromkeys(("a.q", "b.q", "c.q"), (3, 5))


@pytest.mark.parametrize(
    ("named", "causal"),
    [
        (["LlamaForCausalLM"], True),
        (["GPT2LMHeadModel"], True),
        (["BertForSequenceClassification"], False),
        ([], False),
        (None, False),
        (3, False),
    ],
)
def test_causal_architectures(tmp_path: Path, named: Any, causal: bool) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "gpt2", "architectures": named}))
    assert config_of(str(path))[1] is causal
    assert config_of(str(tmp_path))[1] is causal


def test_gpt2_is_counted_as_a_language_model(tmp_path: Path) -> None:
    tiny("gpt2").config.save_pretrained(tmp_path)
    numbers = json.loads((tmp_path / "config.json").read_text()) | {"architectures": ["GPT2LMHeadModel"]}
    (tmp_path / "config.json").write_text(json.dumps(numbers))
    model = on_meta(str(tmp_path))
    assert type(model).__name__ == "GPT2LMHeadModel"
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


@pytest.mark.parametrize(
    "held", [{"load_in_4bit": True, "quant_method": "bitsandbytes"}, {"quant_method": "gptq"}]
)
def test_the_config_of_a_quantised_checkpoint_counts_as_its_model(
    held: dict[str, Any], tmp_path: Path
) -> None:
    numbers = {**tiny("llama").config.to_dict(), "architectures": ["LlamaForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps({**numbers, "quantization_config": held}))
    assert count(on_meta(str(tmp_path))) == sum(p.numel() for p in tiny("llama").parameters())


def test_known_names_are_not_changed_by_building() -> None:
    before = json.dumps(KNOWN["minilm"].config)
    assert on_meta("all-MiniLM-L6-v2", 5).classifier.out_features == 5  # type: ignore[union-attr]
    assert json.dumps(KNOWN["minilm"].config) == before


@pytest.mark.parametrize(
    "change",
    [
        {"num_attention_heads": 0},
        {"hidden_size": -16},
        {"hidden_size": "wide"},
        {"hidden_size": 17},
        {"vocab_size": None},
        {"hidden_act": "no such"},
        {"model_type": "no such"},
        {"model_type": 5},
        {"id2label": 3},
    ],
)
def test_bad_numbers_are_one_line(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(BERT | change))
    with pytest.raises(FedLeaseError) as caught:
        on_meta(str(path))
    assert str(caught.value).startswith(f"{path}: transformers cannot build this ")
    assert "\n" not in str(caught.value)


def test_labels_named_in_a_config_give_way(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(BERT | {"num_labels": 3}))
    assert on_meta(str(path), 4).classifier.out_features == 4  # type: ignore[union-attr]
    assert torch.get_default_device().type == "cpu"
