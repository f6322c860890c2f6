"""What tests of bases need: a language model large enough to quantise, and the libraries that do it."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def quantising() -> None:
    """Leave a test out where the libraries of quantised bases are not installed."""
    for name in ("bitsandbytes", "torchao", "accelerate"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'fedlease[quantization]'")


@pytest.fixture(scope="session")
def llama(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama large enough for all that bitsandbytes does: 64 dimensions, a multiple of its blocks."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("llama-64")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=128,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=0,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_llama).save_pretrained(folder)
    return folder
