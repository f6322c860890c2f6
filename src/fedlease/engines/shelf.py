"""Weights put aside on disk while a round goes on, so that memory does not grow with the clients."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from fedlease.core.errors import FedLeaseError
from fedlease.core.weights import Weights

ROOM = 8 * 2**20
"""Bytes that stay in memory: with few clients the disk is never touched."""


class Shelf:
    """Keeps weights: the first in memory, the rest in a file without a name, which goes when they do.

    Args:
        folder: where the file is made; None keeps all in memory.
        room: bytes that are kept in memory.
    """

    def __init__(self, folder: Path | None, room: int = ROOM) -> None:
        self._folder, self._room = folder, room
        self._file: File | None = None
        self._layouts: dict[Layout, Places] = {}

    def put(self, weights: Weights) -> Weights:
        """Return the same weights, from now on wherever there is room for them.

        Tensors are read anew, bit-equal, each time they are asked for; whoever changes one in place changes
        a copy.

        Raises:
            FedLeaseError: the disk is full.
        """
        size = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
        if self._folder is None or size <= self._room or isinstance(weights, Shelved):
            self._room -= size
            return weights
        try:
            return self._shelve(weights, self._folder)
        except OSError as error:
            raise FedLeaseError(
                f"what clients sent cannot be put aside in {self._folder}: {error.strerror}"
            ) from error

    def _shelve(self, weights: Weights, folder: Path) -> Weights:
        if self._file is None:
            self._file = File(folder)
        began, places = self._file.end(), {}
        for name, tensor in weights.items():
            ready = tensor.detach().cpu().contiguous()
            places[name] = Place(self._file.end() - began, ready.shape, ready.dtype)
            self._file.add(ready.flatten().view(torch.uint8).numpy().data)
        # most clients send the same names and shapes: where these lie is held once, not for each
        return Shelved(self._file, began, self._layouts.setdefault(tuple(places.items()), places))


class File:
    """A file without a name that closes when nobody refers to it any more."""

    def __init__(self, folder: Path) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def end(self) -> int:
        """Where the next content goes."""
        return self._file.tell()

    def add(self, content: memoryview) -> None:
        """Write at the end."""
        while content:
            content = content[self._file.write(content) :]

    def read(self, start: int, size: int) -> bytearray:
        """Read ``size`` bytes from a place.

        Raises:
            FedLeaseError: they are not there.
        """
        buffer = bytearray(size)
        if os.preadv(self._file.fileno(), [buffer], start) != size:
            raise FedLeaseError("what was put aside on disk is gone: was its file cut short?")
        return buffer


@dataclass(frozen=True)
class Place:
    """Where a tensor lies, from where its weights begin, and what it is."""

    start: int
    shape: torch.Size
    dtype: torch.dtype


Places = Mapping[str, Place]
Layout = tuple[tuple[str, Place], ...]


class Shelved(Mapping[str, Tensor]):
    """Weights in a file from some place on; each tensor is read when it is asked for."""

    def __init__(self, file: File, began: int, places: Places) -> None:
        self._file, self._began, self._places = file, began, places

    def __getitem__(self, name: str) -> Tensor:
        place = self._places[name]
        count = math.prod(place.shape)
        if not count:
            return torch.empty(place.shape, dtype=place.dtype)
        content = self._file.read(self._began + place.start, count * place.dtype.itemsize)
        return torch.frombuffer(content, dtype=place.dtype).reshape(place.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
