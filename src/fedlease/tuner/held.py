"""What a layer holds for its adapters: parameters by adapter name, filled and read in expert order."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from fedlease.core.adapter import Adapter
from fedlease.core.errors import FedLeaseError
from fedlease.tuner.base import features_of
from fedlease.tuner.config import FedLeaseConfig
from fedlease.tuner.stacks import check_shape, join, split


class HeldWeights(nn.Module):
    """Parameters of LoRA experts beside a module of d inputs and l outputs; `FedLeaseLayer` names them."""

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.in_features, self.out_features = features_of(base_layer)
        self.base_layer = base_layer
        self.fedlease_A = nn.ParameterDict({})
        self.fedlease_B = nn.ParameterDict({})
        self.fedlease_router = nn.ParameterDict({})
        self.fedlease_frozen_A = nn.ParameterDict({})
        self.fedlease_frozen_B = nn.ParameterDict({})
        self.fedlease_fixed_A = nn.ParameterDict({})
        self.fedlease_fixed_B = nn.ParameterDict({})
        self.adapters: dict[str, Adapter] = {}
        self.configs: dict[str, FedLeaseConfig] = {}

    def add(
        self, adapter_name: str, config: FedLeaseConfig, device: torch.device | None, dtype: torch.dtype
    ) -> None:
        """Make the parameters of an adapter, with the first weights that its config asks for."""
        adapter = config.adapter
        self.adapters[adapter_name] = adapter
        self.configs[adapter_name] = config
        for name, shape in self._shapes(adapter).items():
            container = getattr(self, name)
            container[adapter_name] = nn.Parameter(torch.zeros(shape, device=device, dtype=dtype))
        self._reset(adapter_name, config)

    def _shapes(self, adapter: Adapter) -> dict[str, tuple[int, ...]]:
        others, r, d, l = adapter.experts - 1, adapter.rank, self.in_features, self.out_features  # noqa: E741
        shapes: dict[str, tuple[int, ...]] = {"fedlease_A": (r, d), "fedlease_B": (l, r)}
        if others:
            shapes["fedlease_router"] = (adapter.slots, d)
            shapes["fedlease_frozen_B"] = (others, l, r)
            if not adapter.shared_a:
                shapes["fedlease_frozen_A"] = (others, r, d)
        if adapter.fixed:
            shapes["fedlease_fixed_A"], shapes["fedlease_fixed_B"] = (adapter.fixed, d), (l, adapter.fixed)
        return shapes

    def _reset(self, adapter_name: str, config: FedLeaseConfig) -> None:
        nn.init.kaiming_uniform_(self.fedlease_A[adapter_name], a=math.sqrt(5))
        if not config.init_lora_weights:
            nn.init.normal_(self.fedlease_B[adapter_name], std=0.02)
        if adapter_name in self.fedlease_router and config.router_init == "normal":
            nn.init.normal_(self.fedlease_router[adapter_name], std=0.02)

    @torch.no_grad()
    def load(
        self,
        adapter_name: str,
        A: Tensor,
        B: Tensor,
        router: Tensor | None = None,
        assigned: int | None = None,
        fixed: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        """Overwrite an adapter's weights in place; parameters that train stay the same objects.

        Args:
            adapter_name: an adapter of this layer.
            A: [M, r, d] in expert order, or [r, d] with one expert or an A that all share.
            B: [M, l, r], or [l, r] with one expert.
            router: [slots, d]; None with one expert.
            assigned: index of the expert that trains from now on; None leaves it.
            fixed: the frozen companion's A [R, d] and B [l, R], of any rank R; None without one.

        Raises:
            FedLeaseError: a shape that does not fit, or an expert that does not exist.
        """
        adapter = self.adapters[adapter_name]
        if assigned is not None:
            adapter = replace(adapter, assigned=assigned)
        M, r, d, l = adapter.experts, adapter.rank, self.in_features, self.out_features  # noqa: E741
        check_shape("A", A, (M, r, d) if adapter.stacked("A") else (r, d))
        check_shape("B", B, (M, l, r) if M > 1 else (l, r))
        check_shape("router", router, (adapter.slots, d) if M > 1 else None)
        if adapter.fixed or fixed:
            adapter = self._load_fixed(adapter_name, adapter, fixed)
        self.adapters[adapter_name] = adapter
        # save_pretrained writes the config: it must name the expert that was set apart.
        self.configs[adapter_name].assigned_expert = adapter.assigned
        for kind, tensor in (("A", A), ("B", B)):
            own = tensor
            if adapter.stacked(kind):
                own, others = split(tensor, adapter.assigned)
                getattr(self, f"fedlease_frozen_{kind}")[adapter_name].copy_(others)
            getattr(self, f"fedlease_{kind}")[adapter_name].copy_(own)
        if router is not None:
            self.fedlease_router[adapter_name].copy_(router)

    def _load_fixed(self, name: str, adapter: Adapter, fixed: tuple[Tensor, Tensor] | None) -> Adapter:
        """Put a frozen companion in the place of the one there is; its rank may differ."""
        if fixed is None or not adapter.fixed:
            raise FedLeaseError("a frozen companion is given or missing, and the adapter says otherwise")
        rank = fixed[0].shape[0]
        check_shape("fixed_A", fixed[0], (rank, self.in_features))
        check_shape("fixed_B", fixed[1], (self.out_features, rank))
        for container, tensor in zip((self.fedlease_fixed_A, self.fedlease_fixed_B), fixed, strict=True):
            like = container[name]
            own = tensor.detach().to(like.device, like.dtype, copy=True)
            container[name] = nn.Parameter(own, requires_grad=False)
        self.configs[name].fixed_rank = rank
        return replace(adapter, fixed=rank)

    def read(self, adapter_name: str) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return copies of ``(A, B, router)`` in the layout `load` takes, without gradients.

        A frozen companion is not among them: it never changes.
        """
        adapter = self.adapters[adapter_name]
        held = []
        for kind in ("A", "B"):
            own = getattr(self, f"fedlease_{kind}")[adapter_name].detach()
            if adapter.stacked(kind):
                others = getattr(self, f"fedlease_frozen_{kind}")[adapter_name].detach()
                own = join(own, others, adapter.assigned)
            held.append(own.clone())
        router = self.fedlease_router[adapter_name].detach().clone() if adapter.slots else None
        return held[0], held[1], router
