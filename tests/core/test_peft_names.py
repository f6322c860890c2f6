"""The names of LoRA tensors, in PEFT's terms and in fedlease's."""

from __future__ import annotations

import pytest

from fedlease.core.errors import FedLeaseError
from fedlease.core.peft_names import core_name, peft_name


def test_there_and_back() -> None:
    for part in ("A", "B"):
        assert core_name(peft_name("layer.0.query", part), "here") == f"layer.0.query.{part}"


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("q.lora_A.weight", "q.A"),
        ("base_model.model.q.lora_B.default.weight", "q.B"),
        ("base_model.model.classifier.weight", None),
        ("q.A", None),
    ],
)
def test_names(key: str, name: str | None) -> None:
    assert core_name(key, "here") == name


@pytest.mark.parametrize("kind", ["magnitude_vector", "embedding_A.default", "B.bias", "A.a.b.weight"])
def test_other_parts_are_refused(kind: str) -> None:
    with pytest.raises(FedLeaseError, match=rf"^client x: 'q\.lora_{kind}' is not a part of plain LoRA$"):
        core_name(f"q.lora_{kind}", "client x")
