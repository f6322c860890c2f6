"""Which modules of a model are adapted, and what a method trains on it, without its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as DEFAULT_TARGETS
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from fedlease.core.errors import FedLeaseError
from fedlease.training.models import config_of


def modules_of(model: Any, targets: Sequence[str] | None = None) -> dict[str, tuple[int, int]]:
    """Return the adapted modules: dotted path -> (l outputs, d inputs).

    Args:
        model: a transformers model.
        targets: last words of the paths, e.g. ``["query", "value"]``; None takes the paper's query and value
            projections as PEFT knows them for the architecture.

    Raises:
        FedLeaseError: the architecture has no default, or a target matches no linear module.
    """
    kind = model.config.model_type
    wanted = list(targets or DEFAULT_TARGETS.get(kind, ()))
    if not wanted:
        raise FedLeaseError(f"name model.targets: no default is known for the architecture {kind!r}")
    found: dict[str, tuple[int, int]] = {}
    for path, module in model.named_modules():
        if any(path == target or path.endswith("." + target) for target in wanted):
            shape = _linear_shape(module)
            if shape is not None:
                found[path] = shape
    missing = [t for t in wanted if not any(p == t or p.endswith("." + t) for p in found)]
    if missing:
        raise FedLeaseError(f"model.targets: no linear module of this {kind} model is called {missing[0]!r}")
    return found


def _linear_shape(module: Any) -> tuple[int, int] | None:
    if hasattr(module, "in_features") and hasattr(module, "out_features"):
        return int(module.out_features), int(module.in_features)
    if type(module).__name__ == "Conv1D":  # GPT-2 keeps its weight transposed
        inputs, outputs = module.weight.shape
        return int(outputs), int(inputs)
    return None


def on_meta(name: str, num_labels: int = 2) -> nn.Module:
    """Build a model known by name, or from a config.json, on the meta device: shapes, no numbers.

    Raises:
        FedLeaseError: the name or the config is not usable.
    """
    numbers, causal = config_of(name)
    numbers = dict(numbers)
    kind = numbers.pop("model_type")
    try:
        config = AutoConfig.for_model(kind, **numbers, **({} if causal else {"num_labels": num_labels}))
        make: Any = AutoModelForCausalLM if causal else AutoModelForSequenceClassification
        with torch.device("meta"):
            model: nn.Module = make.from_config(config)
    except (ValueError, KeyError, TypeError) as error:
        raise FedLeaseError(f"{name}: transformers cannot build this {kind} model ({error})") from error
    return model


def count(model: nn.Module) -> int:
    """Return the number of parameters, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())
