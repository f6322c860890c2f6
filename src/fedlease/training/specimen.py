"""One layer of a model, with random weights: enough to see how a machine computes it fastest."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.utils import logging as transformers_logging

from fedlease.core.errors import FedLeaseError
from fedlease.data.files import one_line
from fedlease.data.hub import stay_local
from fedlease.training.base import Base
from fedlease.training.heads import in_head, seeded_heads
from fedlease.training.models import resolve
from fedlease.training.shapes import modules_of

LABELS = 2

WORDS = 1024
"""Most entries of the vocabulary: looking words up is no work, and the table of a large one fills memory."""


def specimen(
    name: str, precision: str, targets: Sequence[str] | None = None, beside: Path | None = None
) -> Base:
    """Build the first layer of a model by its config, as a classifier; no checkpoint is read.

    All layers of a model have the same shapes, so what is fastest for one is for all.

    Args:
        name: of the model, see `resolve`.
        precision: ``"float32"`` or ``"bfloat16"``.
        targets: the modules to adapt, see `modules_of`.
        beside: the folder that relative model paths are looked for in.

    Raises:
        FedLeaseError: there is no such model, or its architecture cannot be built so small.
    """
    path = resolve(name, beside)
    transformers_logging.set_verbosity_error()
    if not Path(path).is_dir():
        stay_local(os.environ)
    try:
        config = AutoConfig.from_pretrained(path)
        _shrink(config)
        dtype = getattr(torch, precision)
        model: Any = AutoModelForSequenceClassification.from_config(config, dtype=dtype)
    except Exception as error:  # configs fail in their own ways
        raise FedLeaseError(f"model {name!r}: no layer of it can be built: {one_line(error)}") from error
    model.requires_grad_(False)
    head_name, heads = seeded_heads(name, model, (LABELS,), 0)
    return Base(model, None, 0, modules_of(model, targets), heads, head_name, path, "")


def numbers(base: Base) -> int:
    """How many numbers the matrices of the layer have: each is a multiplication and an addition a token."""
    tables = {
        f"{path}.weight" for path, module in base.model.named_modules() if isinstance(module, nn.Embedding)
    }
    return sum(
        parameter.numel()
        for name, parameter in base.model.named_parameters()
        if parameter.dim() == 2 and name not in tables and not in_head(name)
    )


def _shrink(config: Any) -> None:
    text = config.get_text_config()
    text.num_hidden_layers = 1
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:1]
    text.vocab_size = min(text.vocab_size, WORDS)
    for each in (config, text):
        each.pad_token_id, each.num_labels = 0, LABELS
