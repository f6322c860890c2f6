"""Weights put aside on disk: the same bits, in little memory, and nothing left behind."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import MODULES, sites

from fedlease.algorithms.registry import build, methods
from fedlease.core.errors import FedLeaseError
from fedlease.engines import shelf
from fedlease.engines.inprocess import InProcess
from fedlease.engines.shelf import Shelf, Shelved

TARGETS = {"a": 0.1, "b": 0.2, "c": 2.0, "d": 2.1}

WEIGHTS = {
    "a.A": torch.tensor([[1.0, -0.0, float("nan")]]),
    "a.B": torch.arange(6).reshape(2, 3).T,  # not contiguous
    "b": torch.tensor([1.5, 2.5], dtype=torch.bfloat16),
    "c": torch.tensor(True),
    "d": torch.empty((0, 4)),
}


def bits(tensor: torch.Tensor) -> tuple[Any, ...]:
    whole = tensor.contiguous().flatten().view(torch.uint8)
    return tensor.dtype, tuple(tensor.shape), whole.tolist()


def test_what_is_read_is_what_was_put(tmp_path: Path) -> None:
    one = Shelf(tmp_path, 0)
    first, second = one.put(WEIGHTS), one.put({"a.A": torch.ones(2)})
    assert isinstance(first, Shelved)
    assert list(first) == list(WEIGHTS)
    for name, tensor in WEIGHTS.items():
        assert bits(first[name]) == bits(tensor)
    assert second["a.A"].tolist() == [1.0, 1.0]
    assert one.put(first) is first
    second["a.A"].zero_()
    assert second["a.A"].tolist() == [1.0, 1.0]
    assert not list(tmp_path.iterdir())  # its file has no name


def test_few_stay_in_memory(tmp_path: Path) -> None:
    small = {"a": torch.ones(4)}  # 16 bytes
    one = Shelf(tmp_path, 40)
    assert one.put(small) is small
    assert one.put(small) is small
    assert isinstance(one.put(small), Shelved)
    assert Shelf(None, 0).put(small) is small


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Any, content: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shelf.File, "add", full)
    with pytest.raises(FedLeaseError, match=r"cannot be put aside in .*: No space left on device"):
        Shelf(tmp_path, 0).put({"a": torch.ones(4)})


@pytest.mark.parametrize("method", sorted(methods()))
@pytest.mark.parametrize("wire", ["float32", "int8"])
def test_every_method_gives_the_same_bits(
    method: str, wire: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf.Shelf.__init__, "__defaults__", (0,))
    algorithm = build(method, rank=2)
    ends = []
    for aside in (None, tmp_path):
        engine = InProcess(algorithm, sites(TARGETS), wire=wire, aside=aside)
        state, models = algorithm.init(MODULES, 0), []
        for _ in range(5):
            state = algorithm.round(state, engine)
            models.append([engine.deployed(state, client).weights for client in engine.ids])
        ends.append(models)
        assert {isinstance(kept, Shelved) for kept in engine.kept.values() if kept} <= {aside is not None}
    for one, other in zip(*ends, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            assert {name: bits(t) for name, t in mine.items()} == {
                name: bits(t) for name, t in theirs.items()
            }
