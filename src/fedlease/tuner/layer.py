"""The one layer every method trains: a frozen linear module with a mixture of LoRA experts beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn import functional

from fedlease.core.adapter import Adapter
from fedlease.core.errors import FedLeaseError
from fedlease.tuner import products
from fedlease.tuner.base import add_to_weight
from fedlease.tuner.config import FedLeaseConfig
from fedlease.tuner.held import HeldWeights
from fedlease.tuner.router import adaptive_top_m, top_k
from fedlease.tuner.stacks import join


class FedLeaseLayer(HeldWeights, BaseTunerLayer):  # type: ignore[misc]
    """``y = W0 x + alpha / r * sum_m w_m(x) B_m A_m x`` (Eq. 5) for d inputs and l outputs.

    ``w(x)`` comes from `adaptive_top_m`, or from `top_k` where the adapter says so. With a single expert
    there is no router and ``w = 1``: LoRA. ``W0`` is any module with known numbers of features; it is only
    ever called, so it may be quantised.

    Parameters are kept by adapter name, in float32 (float64 on a float64 base), and cast to the input's dtype
    in forward, so gradients reach the float32 parameters. Of M experts the assigned one is a parameter of
    its own and the others are a frozen stack: weight decay would still shrink frozen slices of one tensor.

    - ``fedlease_A`` [r, d], ``fedlease_B`` [l, r]: the assigned expert, trained.
    - ``fedlease_router`` [slots, d]: trained; absent with one expert.
    - ``fedlease_frozen_A`` [M-1, r, d], ``fedlease_frozen_B`` [M-1, l, r]: the others in index order; absent
      with one expert, and A where all share one.
    - ``fedlease_fixed_A`` [R, d], ``fedlease_fixed_B`` [l, R]: a frozen companion, of which
      ``fixed_B fixed_A x`` is added as it is; absent unless the adapter has one.
    """

    adapter_layer_names = (
        "fedlease_A",
        "fedlease_B",
        "fedlease_router",
        "fedlease_frozen_A",
        "fedlease_frozen_B",
        "fedlease_fixed_A",
        "fedlease_fixed_B",
    )
    other_param_names = ("adapters", "configs")

    # What BaseTunerLayer brings, for the type checker.
    active_adapters: list[str]
    get_base_layer: Callable[[], nn.Module]
    merged: bool

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: FedLeaseConfig) -> None:
        super().__init__(base_layer)
        self.merged_adapters: list[str] = []
        self._disable_adapters = False
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: FedLeaseConfig) -> None:
        """Add an adapter with fresh weights, as the config describes it."""
        weight = getattr(self.get_base_layer(), "weight", None)
        device = weight.device if isinstance(weight, Tensor) else None
        double = isinstance(weight, Tensor) and weight.dtype == torch.float64
        self.add(adapter_name, config, device, torch.float64 if double else torch.float32)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    # PEFT turns gradients on for every container of an adapter it activates; releases before 0.20 have no
    # way to declare an exception, so what is frozen is frozen again after each such call.

    def set_adapter(self, adapter_names: str | list[str], inference_mode: bool = False) -> None:
        """Activate adapters; all their parameters train but the frozen ones (none in inference mode)."""
        super().set_adapter(adapter_names, inference_mode=inference_mode)
        self._freeze_others()

    def set_requires_grad(self, adapter_names: Any, requires_grad: bool = True) -> None:
        """Turn gradients on or off for adapters; they stay off for what is frozen."""
        super().set_requires_grad(adapter_names, requires_grad)
        self._freeze_others()

    def _freeze_others(self) -> None:
        for container in self.adapter_layer_names[3:]:
            getattr(self, container).requires_grad_(False)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the base layer's output plus the update of each active adapter: [..., d] -> [..., l]."""
        if self.disable_adapters and self.merged:
            self.unmerge()
        result: Tensor = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters or self.merged:
            return result
        for name in self.active_adapters:
            if name in self.adapters:
                result = result + self._update(x, name).to(result.dtype)
                if self.adapters[name].fixed:
                    down = functional.linear(x, self.fedlease_fixed_A[name].to(x.dtype))
                    fixed = functional.linear(down, self.fedlease_fixed_B[name].to(x.dtype))
                    result = result + fixed.to(result.dtype)
        return result

    def _update(self, x: Tensor, name: str) -> Tensor:
        """``alpha / r * sum_m w_m B_m A_m x``: [..., d] -> [..., l]."""
        adapter = self.adapters[name]
        scale = adapter.alpha / adapter.rank
        dropout = adapter.dropout if self.training else 0.0
        if adapter.experts == 1:
            inputs = functional.dropout(x, dropout) if dropout else x
            down = functional.linear(inputs, self.fedlease_A[name].to(x.dtype))
            return functional.linear(down, self.fedlease_B[name].to(x.dtype)) * scale
        tokens = x.reshape(-1, x.shape[-1])
        logits, down = self._down(tokens, name, dropout)
        weights = (self._weights(logits, adapter) * scale).movedim(-1, 0)
        experts = 1 if adapter.shared_a else adapter.experts
        mixed = down.reshape(experts, adapter.rank, len(tokens)) * weights.to(down.dtype).unsqueeze(1)
        # [M-1, l, r] -> [l, (M-1) r], so that the sum over experts happens inside one product.
        frozen = self.fedlease_frozen_B[name].permute(1, 0, 2).flatten(1)
        update = products.up(mixed.flatten(0, 1), self.fedlease_B[name], frozen)
        return update.reshape(*x.shape[:-1], update.shape[-1])

    def _down(self, x: Tensor, name: str, dropout: float) -> tuple[Tensor, Tensor]:
        """Router logits [N, slots] and every expert's ``A x`` [M r, N]; one product without dropout.

        With a shared A there is one ``A x`` [r, N].
        """
        router, own, frozen = self.fedlease_router[name], self.fedlease_A[name], None
        if not self.adapters[name].shared_a:
            frozen = self.fedlease_frozen_A[name].flatten(0, 1)
        if dropout:
            logits = products.down(x, router, None)
            return logits.T, products.down(functional.dropout(x, dropout), own, frozen)
        both = products.down(x, torch.cat([router, own]), frozen)
        slots = router.shape[0]
        return both[:slots].T, both[slots:]

    @staticmethod
    def _weights(logits: Tensor, adapter: Adapter) -> Tensor:
        if adapter.top_k is not None:
            return top_k(logits, adapter.top_k, adapter.normalize)
        return adaptive_top_m(logits, adapter.experts, adapter.normalize)

    def weights_of(self, x: Tensor, adapter_name: str) -> Tensor:
        """Return the mixture weights of an input: [..., d] -> [..., M], entry m the weight of expert m.

        Float32 (float64 for a float64 input); an expert with weight 0 was not used. Nothing is stored.
        """
        adapter = self.adapters[adapter_name]
        if adapter.experts == 1:
            exact = torch.float64 if x.dtype == torch.float64 else torch.float32
            return torch.ones((*x.shape[:-1], 1), dtype=exact, device=x.device)
        logits = functional.linear(x, self.fedlease_router[adapter_name].to(x.dtype))
        weights = self._weights(logits, adapter)
        return join(weights[..., 0], weights[..., 1:].movedim(-1, 0), adapter.assigned).movedim(0, -1)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add adapters of one expert to the base weight; `FedLeaseError` where there are more experts.

        What `base.add_to_weight` refuses is refused as well.
        """
        names = self.active_adapters if adapter_names is None else adapter_names
        deltas = {n: self._delta(n) for n in names if n in self.adapters and n not in self.merged_adapters}
        for name, delta in deltas.items():
            add_to_weight(self.get_base_layer(), delta, safe_merge)
            self.merged_adapters.append(name)

    def unmerge(self) -> None:
        """Take merged adapters out of the base weight again."""
        while self.merged_adapters:
            add_to_weight(self.get_base_layer(), -self._delta(self.merged_adapters[-1]))
            self.merged_adapters.pop()

    def _delta(self, name: str) -> Tensor:
        """``alpha / r * B A``: [l, d]."""
        adapter = self.adapters[name]
        if adapter.experts > 1:
            raise FedLeaseError(
                f"adapter {name!r} mixes {adapter.experts} experts by input: no single weight can replace it"
            )
        product: Tensor = self.fedlease_B[name].detach() @ self.fedlease_A[name].detach()
        product = product * (adapter.alpha / adapter.rank)
        if adapter.fixed:
            product += self.fedlease_fixed_B[name] @ self.fedlease_fixed_A[name]
        return product


class FedLeaseLinear(FedLeaseLayer):
    """The class that is used: PEFT's ``all-linear`` knows adapted layers by a name with "Linear" in it."""
