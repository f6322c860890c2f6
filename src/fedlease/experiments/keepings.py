"""What clients keep, as a checkpoint has it: the bytes of a client together, names and shapes once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fedlease.core.protocols import ClientId
from fedlease.core.weights import Weights


@dataclass(frozen=True)
class Form:
    """Of a tensor: its name, its kind of number as torch calls it, and its shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        return math.prod(self.shape) * self.kind.itemsize

    @property
    def kind(self) -> torch.dtype:
        """Its kind of number."""
        kind: torch.dtype = getattr(torch, self.dtype)
        return kind


@dataclass(frozen=True)
class Keepings:
    """The private memories of all clients.

    Attributes:
        round: after which they are those.
        layouts: what clients keep, in its order. Most keep the same names.
        which: client -> its place in ``layouts``.
        content: client -> uint8 [bytes of all tensors, one behind the other].
    """

    round: int
    layouts: list[tuple[Form, ...]]
    which: dict[ClientId, int]
    content: Mapping[ClientId, Tensor]

    @classmethod
    def of(cls, round: int, kept: Mapping[ClientId, Weights]) -> Keepings:
        """Put memories together; the content of each is read when it is asked for."""
        places: dict[tuple[Form, ...], int] = {}
        which = {client: places.setdefault(_layout(own), len(places)) for client, own in kept.items()}
        return cls(round, list(places), which, _Contents(kept))

    def apart(self) -> Iterator[tuple[ClientId, dict[str, Tensor]]]:
        """Give each client's memory in turn, in tensors of their own."""
        for client, place in self.which.items():
            layout = self.layouts[place]
            parts = torch.split(self.content[client], [form.nbytes for form in layout])
            yield (
                client,
                {
                    form.name: part.clone().view(form.kind).reshape(form.shape)
                    for form, part in zip(layout, parts, strict=True)
                },
            )


class _Contents(Mapping[ClientId, Tensor]):
    """The bytes of what each client keeps, put together when they are asked for."""

    def __init__(self, kept: Mapping[ClientId, Weights]) -> None:
        self._kept = kept

    def __getitem__(self, client: ClientId) -> Tensor:
        parts = [
            t.detach().cpu().contiguous().flatten().view(torch.uint8) for t in self._kept[client].values()
        ]
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.uint8)

    def __iter__(self) -> Iterator[ClientId]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)


def _layout(weights: Weights) -> tuple[Form, ...]:
    return tuple(
        Form(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        for name, tensor in weights.items()
    )
