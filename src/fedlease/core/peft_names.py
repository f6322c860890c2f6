"""The names PEFT gives LoRA tensors, and fedlease's: ``base_model.model.X.lora_A.weight`` is ``X.A``."""

from __future__ import annotations

from fedlease.core.errors import FedLeaseError

PREFIX = "base_model.model."
"""What PEFT puts before the path of a module."""


def peft_name(module: str, part: str) -> str:
    """Return PEFT's name of a module's ``"A"`` or ``"B"``."""
    return f"{PREFIX}{module}.lora_{part}.weight"


def core_name(key: str, place: str) -> str | None:
    """Return fedlease's name, ``X.A`` or ``X.B``, of a tensor under PEFT's; None where it is not of LoRA.

    Args:
        key: the name in a file (``X.lora_A.weight``) or in a live model (``X.lora_A.default.weight``).
        place: where the name was found, for the error.

    Raises:
        FedLeaseError: a part of LoRA other than A and B, such as DoRA's magnitudes.
    """
    module, found, kind = key.removeprefix(PREFIX).rpartition(".lora_")
    if not found:
        return None
    pieces = kind.split(".")
    if pieces[0] not in ("A", "B") or pieces[-1] != "weight" or len(pieces) > 3:
        raise FedLeaseError(f"{place}: {key!r} is not a part of plain LoRA")
    return f"{module}.{pieces[0]}"
