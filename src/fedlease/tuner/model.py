"""The tuner that PEFT builds: puts a `FedLeaseLayer` in the place of each targeted module."""

from __future__ import annotations

from typing import Any

from peft.tuners.tuners_utils import BaseTuner
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import nn

from fedlease.core.errors import FedLeaseError
from fedlease.tuner.config import FedLeaseConfig
from fedlease.tuner.layer import FedLeaseLayer, FedLeaseLinear


class FedLeaseModel(BaseTuner):  # type: ignore[misc]
    """A base model with FedLEASE adapters; make one with `peft.get_peft_model`.

    Targets are found as PEFT's LoRA finds them, defaults included.
    """

    prefix: str = "fedlease_"
    tuner_layer_cls = FedLeaseLayer
    target_module_mapping = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    def _create_and_replace(
        self,
        peft_config: FedLeaseConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **_: Any,
    ) -> None:
        if isinstance(target, FedLeaseLayer):
            target.update_layer(adapter_name, peft_config)
            return
        try:
            layer = FedLeaseLinear(target, adapter_name, peft_config)
        except FedLeaseError as error:
            raise FedLeaseError(f"{current_key}: {error}") from error
        self._replace_module(parent, target_name, layer, target)
