"""The resident model: one frozen base in memory, and whichever client's adapter is on it now."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from dataclasses import replace

import torch
from peft import inject_adapter_in_model
from torch import Tensor, nn

from fedlease.core.adapter import Adapter, Model
from fedlease.core.errors import FedLeaseError
from fedlease.core.weights import part
from fedlease.training.base import Base
from fedlease.tuner import FedLeaseConfig, FedLeaseLayer


class Resident:
    """A base model on which adapters are swapped in place; nothing is reloaded or copied per client.

    Adapters of one shape share their parameters' storage; a new shape (another rank or number of experts)
    is added once, under a name of its own.
    """

    def __init__(self, base: Base) -> None:
        self.base = base
        self._layers: dict[str, FedLeaseLayer] = {}
        self._shapes: dict[Adapter, str] = {}

    @property
    def device(self) -> torch.device:
        """Where the base is."""
        return next(self.base.model.parameters()).device

    def put(self, model: Model, labels: int) -> nn.Module:
        """Put an adapter and the head for that many labels (none for 0) on the base; return the model.

        Raises:
            FedLeaseError: a tensor is missing or has another shape than the base's modules ask for.
        """
        name = self._add(model.adapter)
        weights = model.weights
        for path, layer in self._layers.items():
            try:
                a, b = weights[f"{path}.A"], weights[f"{path}.B"]
                held = weights.get(f"{path}.fixed_A"), weights.get(f"{path}.fixed_B")
                fixed = (held[0], held[1]) if held[0] is not None and held[1] is not None else None
                layer.load(name, a, b, weights.get(f"{path}.router"), model.adapter.assigned, fixed)
            except (KeyError, ValueError, RuntimeError, FedLeaseError) as error:
                raise FedLeaseError(f"the adapter does not fit module {path}: {error}") from error
            layer.set_adapter(name)
        if labels:
            setattr(self.base.model, self.base.head_name, self.base.heads[labels])
        return self.base.model

    def learn(self, adapter: Adapter, parts: Collection[str]) -> list[nn.Parameter]:
        """Let the named parts of the adapter train, and nothing else; return their parameters."""
        name = self._shapes[_shape(adapter)]
        learning = []
        for layer in self._layers.values():
            for kind, parameter in _own(layer, name).items():
                parameter.requires_grad_(kind in parts)
                if kind in parts:
                    learning.append(parameter)
        if not learning:
            raise FedLeaseError(f"none of the parts {', '.join(parts)} is in this adapter: nothing to train")
        return learning

    def take(self, model: Model, parts: Collection[str]) -> dict[str, Tensor]:
        """Return ``model.weights`` with the trained parts read back from the base; the rest is untouched.

        Of several experts only the assigned one is read back.
        """
        name = self._shapes[_shape(model.adapter)]
        taken = dict(model.weights)
        for path, layer in self._layers.items():
            for kind, parameter in _own(layer, name).items():
                if kind in parts:
                    value = parameter.detach().to("cpu", torch.float32, copy=True)
                    taken[f"{path}.{kind}"] = _with_expert(model, f"{path}.{kind}", value)
        return taken

    def _add(self, adapter: Adapter) -> str:
        shape = _shape(adapter)
        if shape not in self._shapes:
            name = f"shape{len(self._shapes)}"
            config = FedLeaseConfig.of(shape, self.base.modules)
            with warnings.catch_warnings():  # a second adapter on the base is what is meant here
                warnings.filterwarnings("ignore", message="Already found a `peft_config`")
                inject_adapter_in_model(config, self.base.model, adapter_name=name)
            self._shapes[shape] = name
            self._layers = {
                path: layer
                for path, layer in self.base.model.named_modules()
                if isinstance(layer, FedLeaseLayer)
            }
            self.base.model.requires_grad_(False)
        return self._shapes[shape]


def _own(layer: FedLeaseLayer, name: str) -> dict[str, nn.Parameter]:
    """The parameters of a layer that may train, by part: the assigned expert's and the router."""
    held = {"A": layer.fedlease_A, "B": layer.fedlease_B, "router": layer.fedlease_router}
    return {kind: container[name] for kind, container in held.items() if name in container}


def _shape(adapter: Adapter) -> Adapter:
    """What adapters must have in common to share storage: a frozen companion may have any rank."""
    return replace(adapter, assigned=0, fixed=min(adapter.fixed, 1))


def _with_expert(model: Model, name: str, value: Tensor) -> Tensor:
    """The stacked tensor with the assigned expert's entry replaced; the value itself if not stacked."""
    if not model.adapter.stacked(part(name)):
        return value
    stacked = model.weights[name].clone()
    stacked[model.adapter.assigned] = value
    return stacked
