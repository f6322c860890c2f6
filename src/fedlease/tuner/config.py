"""The configuration of an adapter in PEFT's terms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from peft import PeftConfig
from peft.utils.peft_types import PeftType

from fedlease.core.adapter import Adapter
from fedlease.core.errors import FedLeaseError


@dataclass
class FedLeaseConfig(PeftConfig):  # type: ignore[misc]
    """Configuration of a mixture of LoRA experts; with ``num_experts=1`` it is plain LoRA.

    Attributes:
        r: rank of each expert.
        target_modules: names (suffixes) of the linear modules to adapt, a regular expression, or
            ``"all-linear"``; None means PEFT's LoRA default for the model's architecture.
        exclude_modules: names or a regular expression of modules to leave alone.
        lora_alpha: an expert's update is scaled by ``lora_alpha / r``.
        lora_dropout: dropout on the experts' input; the router always sees the input itself.
        num_experts: M.
        assigned_expert: index of the one expert whose A and B train.
        top_k: None for adaptive top-M routing (Eq. 5), a number for vanilla top-k (Eq. 4).
        normalize_weights: rescale the weights of the chosen slots to sum to 1.
        router_init: first weights of the router, ``"zeros"`` or ``"normal"`` (standard deviation 0.02). With
            zeros all slots tie, so training starts from the assigned expert alone, with weight M / (2M-1).
            Together with ``normalize_weights`` that weight is 1 whatever the router does: it would never get
            a gradient, so rescaled weights need ``"normal"`` or a router that is loaded.
        fixed_rank: rank of a frozen companion whose update is added as it is; 0 is none.
        shared_a: all experts have one A between them.
        init_lora_weights: A Kaiming-uniform and B zeros; False draws B from N(0, 0.02) too, for tests.
        layers_to_transform: adapt only layers with these indices.
        layers_pattern: name of the list of layers, where ``layers_to_transform`` needs it.
        modules_to_save: other modules to train and save with the adapter, e.g. a task head.
        bias: only ``"none"``.

    Raises:
        FedLeaseError: a value that makes no sense.
    """

    r: int = field(default=4, metadata={"help": "Rank of each expert."})
    target_modules: list[str] | str | None = field(default=None, metadata={"help": "Modules to adapt."})
    exclude_modules: list[str] | str | None = field(
        default=None, metadata={"help": "Modules to leave alone."}
    )
    lora_alpha: float = field(default=16.0, metadata={"help": "Updates are scaled by lora_alpha / r."})
    lora_dropout: float = field(default=0.0, metadata={"help": "Dropout on the experts' input."})
    num_experts: int = field(default=1, metadata={"help": "Number of experts M."})
    assigned_expert: int = field(default=0, metadata={"help": "Index of the expert that trains."})
    top_k: int | None = field(default=None, metadata={"help": "None: adaptive top-M; k: vanilla top-k."})
    normalize_weights: bool = field(default=False, metadata={"help": "Rescale chosen weights to sum to 1."})
    router_init: str = field(default="zeros", metadata={"help": "'zeros' or 'normal' (std 0.02)."})
    fixed_rank: int = field(default=0, metadata={"help": "Rank of a frozen companion; 0 is none."})
    shared_a: bool = field(default=False, metadata={"help": "One A for all experts."})
    init_lora_weights: bool = field(default=True, metadata={"help": "Start from a zero update."})
    layers_to_transform: list[int] | int | None = field(default=None, metadata={"help": "Layer indices."})
    layers_pattern: list[str] | str | None = field(default=None, metadata={"help": "Name of the layer list."})
    modules_to_save: list[str] | None = field(default=None, metadata={"help": "Other modules to train."})
    bias: str = field(default="none", metadata={"help": "Only 'none'."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType("FEDLEASE")
        # Sets, as PEFT's matching and its own configs have them.
        if isinstance(self.target_modules, list | tuple):
            self.target_modules = set(self.target_modules)  # type: ignore[assignment]
        if isinstance(self.exclude_modules, list | tuple):
            self.exclude_modules = set(self.exclude_modules)  # type: ignore[assignment]
        self._check()

    @classmethod
    def of(cls, adapter: Adapter, modules: Iterable[str], **options: Any) -> FedLeaseConfig:
        """Return the config of an adapter on the modules of these full paths."""
        return cls(
            r=adapter.rank,
            lora_alpha=adapter.alpha,
            lora_dropout=adapter.dropout,
            num_experts=adapter.experts,
            assigned_expert=adapter.assigned,
            top_k=adapter.top_k,
            normalize_weights=adapter.normalize,
            fixed_rank=adapter.fixed,
            shared_a=adapter.shared_a,
            target_modules=list(modules),
            **options,
        )

    @property
    def adapter(self) -> Adapter:
        """The shape and mixing rule in the project's own terms."""
        return Adapter(
            rank=self.r,
            alpha=self.lora_alpha,
            dropout=self.lora_dropout,
            experts=self.num_experts,
            assigned=self.assigned_expert,
            top_k=self.top_k,
            normalize=self.normalize_weights,
            fixed=self.fixed_rank,
            shared_a=self.shared_a,
        )

    def _check(self) -> None:
        _ = self.adapter  # checks the numbers
        if self.router_init not in ("zeros", "normal"):
            raise FedLeaseError(f"router_init is {self.router_init!r}: it must be 'zeros' or 'normal'")
        if self.bias != "none":
            raise FedLeaseError(f"bias is {self.bias!r}: only 'none' is supported, biases are not federated")
        if isinstance(self.target_modules, str) and self.layers_to_transform is not None:
            raise FedLeaseError("layers_to_transform needs target_modules as a list, not as an expression")
        if self.layers_pattern and self.layers_to_transform is None:
            raise FedLeaseError("layers_pattern is given without layers_to_transform")
