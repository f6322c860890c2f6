"""Which modules of a model are adapted, and what a method trains on it, without its weights."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as DEFAULT_TARGETS
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from fedlease.core.errors import FedLeaseError
from fedlease.data.files import one_line
from fedlease.training.models import config_of
from fedlease.tuner.base import features_of

HEADS = ("classifier", "score", "classification_head")
"""What transformers calls the classification head of a model: an attribute of it."""


def modules_of(model: Any, targets: Sequence[str] | None = None) -> dict[str, tuple[int, int]]:
    """Return the adapted modules: dotted path -> (l outputs, d inputs).

    Args:
        model: a transformers model.
        targets: last words of the paths, e.g. ``["query", "value"]``; None takes the paper's query and value
            projections as PEFT knows them for the architecture.

    The head is left out: each number of labels has its own, and an adapter on one would be lost with it.

    Raises:
        FedLeaseError: the architecture has no default, or a target matches no linear module.
    """
    kind = model.config.model_type
    wanted = targets or DEFAULT_TARGETS.get(kind)
    if not wanted or isinstance(wanted, str):  # PEFT knows some architectures by a pattern
        raise FedLeaseError(f"name model.targets: no default is known for the architecture {kind!r}")
    found: dict[str, tuple[int, int]] = {}
    for path, module in model.named_modules():
        if path.partition(".")[0] not in HEADS and any(_ends(path, target) for target in wanted):
            with contextlib.suppress(FedLeaseError):  # a module of that name that is not linear
                inputs, outputs = features_of(module)
                found[path] = (outputs, inputs)
    missing = [t for t in wanted if not any(_ends(path, t) for path in found)]
    if missing:
        raise FedLeaseError(
            f"model.targets: no linear module of this {kind} model, its head aside, is called {missing[0]!r}"
        )
    return found


def _ends(path: str, target: str) -> bool:
    return path == target or path.endswith("." + target)


def on_meta(name: str, num_labels: int = 2) -> nn.Module:
    """Build a model known by name, or from a config.json, on the meta device: shapes, no numbers.

    Raises:
        FedLeaseError: the name or the config is not usable.
    """
    numbers, causal = config_of(name)
    numbers = dict(numbers)
    kind = numbers.pop("model_type")
    if not causal:
        numbers["num_labels"] = num_labels
    try:
        config = AutoConfig.for_model(kind, **numbers)
        make: Any = AutoModelForCausalLM if causal else AutoModelForSequenceClassification
        with torch.device("meta"):
            model: nn.Module = make.from_config(config)
    except Exception as error:  # bad numbers fail anywhere: a division by zero, a negative size, a bare word
        raise FedLeaseError(
            f"{name}: transformers cannot build this {kind} model ({one_line(error)})"
        ) from error
    return model


def count(model: nn.Module) -> int:
    """Return the number of parameters, tied ones once, and packed ones as many as they stand for."""
    return sum(map(_size, model.parameters()))


def _size(parameter: Tensor) -> int:
    packed = getattr(parameter, "quant_state", None)  # bitsandbytes has two numbers of 4 bits in a byte
    return parameter.numel() if packed is None else math.prod(packed.shape)
