"""The method's name in PEFT's enumeration, and settings that make no sense."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from enum import StrEnum
from pathlib import Path

import pytest
from peft import get_peft_model
from peft.utils.peft_types import PeftType
from tuner_models import tiny

import fedlease.tuner.register as registration
from fedlease.core.errors import FedLeaseError
from fedlease.tuner import FedLeaseConfig


def test_registering_twice_changes_nothing() -> None:
    members = list(PeftType)
    registration.register()
    assert list(PeftType) == members
    assert members.count(PeftType("FEDLEASE")) == 1


def test_the_new_member_is_like_the_others() -> None:
    member = PeftType("FEDLEASE")
    assert member is PeftType["FEDLEASE"] is PeftType.FEDLEASE
    assert member == "FEDLEASE"
    assert "FEDLEASE" in list(PeftType)
    assert isinstance(member, PeftType)
    assert (member.name, member.value) == ("FEDLEASE", "FEDLEASE")
    assert pickle.loads(pickle.dumps(member)) is member
    assert copy.deepcopy(member) is member
    assert hash(member) == hash(PeftType("FEDLEASE"))
    assert PeftType("LORA") is PeftType.LORA


def test_another_peft_gives_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(StrEnum):
        LORA = "LORA"

    def refuse(**_: object) -> None:
        raise KeyError("no")

    monkeypatch.setattr(registration, "PeftType", Closed)
    monkeypatch.setattr(registration, "PEFT_TYPE_TO_CONFIG_MAPPING", {})
    monkeypatch.setattr(registration, "register_peft_method", refuse)
    monkeypatch.setattr("peft.__version__", "9.9")
    with pytest.raises(FedLeaseError, match=r"PEFT 9\.9 .*>=0\.19,<0\.22"):
        registration.register()


def test_importing_the_package_is_enough(tmp_path: Path) -> None:
    get_peft_model(tiny("bert"), FedLeaseConfig(num_experts=3)).save_pretrained(str(tmp_path))
    code = (
        f"import peft, fedlease.tuner; print(peft.PeftConfig.from_pretrained({str(tmp_path)!r}).num_experts)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "3", done.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        {"r": 0},
        {"lora_alpha": 0},
        {"lora_dropout": 1.0},
        {"num_experts": 0},
        {"num_experts": 2, "assigned_expert": 2},
        {"num_experts": 2, "top_k": 3},
        {"router_init": "ones"},
        {"bias": "all"},
        {"layers_pattern": "layers"},
        {"target_modules": ".*q", "layers_to_transform": [1]},
    ],
)
def test_configurations_that_make_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(FedLeaseError) as caught:
        FedLeaseConfig(**wrong)
    assert "\n" not in str(caught.value)
