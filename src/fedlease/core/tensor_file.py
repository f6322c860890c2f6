"""Tensors written one after the other, as safetensors: not all have to be in memory for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from fedlease.core.files import write_parts

KINDS = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
}
"""What safetensors calls them."""


def write_tensors(path: Path, tensors: Mapping[str, Callable[[], Tensor]]) -> None:
    """Write tensors as safetensors, atomically, with no more than two of them in memory.

    Args:
        path: of the file.
        tensors: name -> how to read it; each is read twice, and is the same both times.

    Raises:
        FedLeaseError: it cannot be written; the old file, if there is one, is left as it was.
        TypeError: a kind of number that is not written.
    """
    forms = {name: _form(name, read()) for name, read in tensors.items()}
    # numbers of many bytes first, so that all lie where their kind may lie
    order = sorted(tensors, key=lambda name: (-forms[name][0].itemsize, name))
    told, end = {}, 0
    for name in order:
        dtype, shape = forms[name]
        start, end = end, end + shape.numel() * dtype.itemsize
        told[name] = {"dtype": KINDS[dtype], "shape": list(shape), "data_offsets": [start, end]}
    header = json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)

    def parts() -> Iterator[bytes | memoryview]:
        yield len(header).to_bytes(8, "little")
        yield header
        for name in order:
            ready = tensors[name]().detach().cpu().contiguous()
            yield ready.flatten().view(torch.uint8).numpy().data

    write_parts(path, parts())


def _form(name: str, tensor: Tensor) -> tuple[torch.dtype, torch.Size]:
    if tensor.dtype not in KINDS:
        raise TypeError(f"cannot store {tensor.dtype} at {name}")
    return tensor.dtype, tensor.shape
