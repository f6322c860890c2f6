"""A PEFT folder of plain LoRA or of a mixture, read back as the project's own `Model`."""

from __future__ import annotations

import os
from pathlib import Path

from torch import Tensor

from fedlease.core.adapter import Adapter, Model
from fedlease.core.errors import FedLeaseError
from fedlease.core.peft_names import PREFIX
from fedlease.core.weights import module, part
from fedlease.tuner.config import FedLeaseConfig
from fedlease.tuner.export import CONFIG, TENSORS, by_module, read_config, read_lora, read_tensors
from fedlease.tuner.stacks import join

MARK = ".fedlease_"

KEYS = (
    "r",
    "lora_alpha",
    "lora_dropout",
    "num_experts",
    "assigned_expert",
    "top_k",
    "normalize_weights",
    "fixed_rank",
    "shared_a",
)
"""What of a config says what an adapter is; the rest says where it goes."""


def read_model(folder: str | os.PathLike[str]) -> Model:
    """Read what `save_lora` or `save_mixture` wrote; modules saved beside the adapter are left out.

    A LoRA folder comes back with alpha = rank, its scale in B: the same update.

    Raises:
        FedLeaseError: what `read_lora` raises; a config that is no adapter's; tensors that do not fit it.
    """
    path = Path(folder)
    config = read_config(path)
    if config.get("peft_type") != "FEDLEASE":
        weights = read_lora(path)
        ranks = {len(tensor) for name, tensor in weights.items() if part(name) == "A"}
        if len(ranks) > 1:
            raise FedLeaseError(f"{path / TENSORS}: its modules have the ranks {sorted(ranks)}, not one")
        return Model(Adapter(rank := ranks.pop(), alpha=float(rank)), weights)
    try:
        adapter = FedLeaseConfig(**{key: config[key] for key in KEYS if key in config}).adapter
    except (TypeError, ValueError, FedLeaseError) as error:
        raise FedLeaseError(f"{path / CONFIG}: is no adapter's config ({error})") from error
    model = Model(adapter, _joined(adapter, read_tensors(path)))
    try:
        by_module(model)
    except (FedLeaseError, IndexError) as error:
        raise FedLeaseError(f"{path / TENSORS}: {error}") from error
    return model


def _joined(adapter: Adapter, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a folder under the project's names, the assigned expert back in its stack."""
    found = {
        f"{path}.{kind}": tensor
        for key, tensor in sorted(tensors.items())
        for path, mark, kind in [key.removeprefix(PREFIX).rpartition(MARK)]
        if mark
    }
    for name in [name for name in found if part(name) in ("frozen_A", "frozen_B")]:
        others, own = found.pop(name), f"{module(name)}.{part(name).removeprefix('frozen_')}"
        if own in found and others.shape[1:] == found[own].shape:
            found[own] = join(found[own], others, adapter.assigned)
    return found
