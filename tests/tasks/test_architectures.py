"""Losses and texts of language models that place tokens or treat logits in ways of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from fedlease.tasks.base import Encoded
from fedlease.tasks.generation import Generation
from fedlease.tasks.inference import Inference

LLAMA = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
KINDS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},  # learned positions
    "gemma2": {**LLAMA, "head_dim": 8, "final_logit_softcapping": 5.0, "sliding_window": 8},
    "granite": {**LLAMA, "logits_scaling": 3.0},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},  # alibi
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_loss_and_text_are_those_of_transformers(kind: str) -> None:
    config = AutoConfig.for_model(
        kind, vocab_size=99, pad_token_id=0, bos_token_id=1, eos_token_id=1, **KINDS[kind]
    )
    network = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=random))
    ids = tuple(torch.randint(2, 99, (n,), generator=random).tolist() for n in (9, 14, 20, 12))
    rows = Encoded(ids, None, (5, 10, 4, 11), 0, ("",) * 4, ((),) * 4)
    task = Generation("{prompt}", 6)
    with torch.inference_mode():
        batch = task.collate(rows, range(4), 0)
        assert abs(task.loss(network, batch).item() - network(**batch).loss.item()) < 1e-6
        written = task.write(network, rows, Inference(None, 0, 3, torch.device("cpu"), lambda step: None), 1)
        for row, (tokens, start) in enumerate(zip(rows.input_ids, rows.labels, strict=True)):
            prompt = torch.tensor([tokens[:start]])
            out = network.generate(
                prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=6
            )[0, start:].tolist()
            assert written[row] == (out[: out.index(1)] if 1 in out else out)
    assert len({tuple(text) for text in written}) > 1
