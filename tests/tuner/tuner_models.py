"""Tiny models with random weights, built from configs: nothing is downloaded."""

from __future__ import annotations

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

_ENCODER = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 40,
    "max_position_embeddings": 32,
}


def tiny(kind: str) -> PreTrainedModel:
    torch.manual_seed(7)
    if kind == "bert":
        return BertForSequenceClassification(BertConfig(**_ENCODER)).eval()
    if kind == "roberta":
        return RobertaForSequenceClassification(RobertaConfig(**_ENCODER)).eval()
    if kind == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=40, n_positions=32)
        ).eval()
    return LlamaForCausalLM(LlamaConfig(**_ENCODER, num_key_value_heads=1)).eval()


def tokens(rows: int = 3, length: int = 6) -> dict[str, torch.Tensor]:
    ids = torch.randint(3, 40, (rows, length), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def randomise(model: torch.nn.Module, seed: int = 3) -> None:
    """Give every adapter parameter random values, so that all experts and the router matter."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "fedlease_" in name or "lora_" in name:
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=random))
