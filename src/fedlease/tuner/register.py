"""Makes PEFT know the method ``fedlease``: `get_peft_model` and `from_pretrained` find it by name."""

from __future__ import annotations

from enum import Enum

import peft
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils.peft_types import PeftType, register_peft_method

from fedlease.core.errors import FedLeaseError
from fedlease.tuner.config import FedLeaseConfig
from fedlease.tuner.model import FedLeaseModel

PEFT_RANGE = ">=0.19,<0.22"
"""The PEFT releases this is tested with."""


def register() -> None:
    """Register the method with PEFT; do nothing when it is registered already.

    Raises:
        FedLeaseError: the installed PEFT works in another way.
    """
    try:
        if "FEDLEASE" not in PeftType.__members__:
            add_member(PeftType, "FEDLEASE")
        if PeftType.FEDLEASE not in PEFT_TYPE_TO_CONFIG_MAPPING:
            register_peft_method(name="fedlease", config_cls=FedLeaseConfig, model_cls=FedLeaseModel)
    except Exception as error:
        raise FedLeaseError(
            f"PEFT {peft.__version__} does not take the method fedlease ({error}): "
            f'install a release it is tested with, pip install "peft{PEFT_RANGE}"'
        ) from error


def add_member(enumeration: type[Enum], name: str) -> None:
    """Add a member whose value is its name to an enumeration of strings.

    PEFT takes methods from outside only under names that `PeftType` has, and offers no way to add one.
    """
    member = str.__new__(enumeration, name)  # type: ignore[type-var]
    member._name_ = name
    member._value_ = name
    member._sort_order_ = len(enumeration.__members__)  # type: ignore[attr-defined]
    # Enum's own __setattr__ refuses new members.
    type.__setattr__(enumeration, name, member)
    enumeration._member_names_.append(name)
    enumeration._member_map_[name] = member
    enumeration._value2member_map_[name] = member
    if hasattr(enumeration, "_hashable_values_"):  # from Python 3.13 on
        enumeration._hashable_values_.append(name)
