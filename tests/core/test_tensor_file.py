"""Tensors written one after the other are a file that safetensors reads, and few are held at a time."""

from __future__ import annotations

from pathlib import Path
from weakref import ref

import pytest
import torch
from safetensors.torch import load_file, save

from fedlease.core.errors import FedLeaseError
from fedlease.core.tensor_file import KINDS, write_tensors


def test_safetensors_reads_every_kind_and_would_write_the_same(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {f"größe {kind}": torch.randint(0, 2, (3, 5), generator=generator).to(kind).T for kind in KINDS}
    tensors |= {"none": torch.empty(0, 4), "one": torch.tensor(float("nan"))}
    write_tensors(tmp_path / "t", {name: lambda t=t: t for name, t in tensors.items()})
    back = load_file(tmp_path / "t")
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (back[name].dtype, back[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(back[name].nan_to_num(7), tensor.nan_to_num(7))
    floats = {name: t.contiguous() for name, t in tensors.items() if t.dtype == torch.float32}
    write_tensors(tmp_path / "t", {name: lambda t=t: t for name, t in reversed(floats.items())})
    assert (tmp_path / "t").read_bytes() == save(floats)


def test_no_more_than_two_are_in_memory(tmp_path: Path) -> None:
    held: list[ref[torch.Tensor]] = []

    def read() -> torch.Tensor:
        assert sum(other() is not None for other in held) <= 1
        made = torch.ones(4)
        held.append(ref(made))
        return made

    write_tensors(tmp_path / "t", dict.fromkeys("abc", read))
    assert len(held) == 6


def test_what_cannot_be_written_is_said_and_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"old")
    with pytest.raises(TypeError, match="complex64 at x"):
        write_tensors(tmp_path / "t", {"x": lambda: torch.ones(1, dtype=torch.complex64)})
    with pytest.raises(FedLeaseError, match="cannot write"):
        write_tensors(tmp_path / "none" / "t", {"x": lambda: torch.ones(1)})
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
