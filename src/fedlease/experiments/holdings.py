"""What clients hold of what they were sent, as a checkpoint has it: a tensor a client, the names once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fedlease.core.protocols import ClientId
from fedlease.core.weights import Weights


@dataclass(frozen=True)
class Holdings:
    """The digests of all clients.

    Attributes:
        layouts: what clients hold: name -> items. Most hold the same names.
        which: client -> its place in ``layouts``.
        digests: client -> uint8 [items of all names, 16].
    """

    layouts: list[dict[str, int]]
    which: dict[ClientId, int]
    digests: dict[ClientId, Tensor]

    @classmethod
    def of(cls, holds: Mapping[ClientId, Weights]) -> Holdings:
        """Put digests together; clients that hold nothing are left out."""
        places: dict[tuple[tuple[str, int], ...], int] = {}
        which: dict[ClientId, int] = {}
        digests: dict[ClientId, Tensor] = {}
        for client, held in holds.items():
            if held:
                layout = tuple((name, len(one)) for name, one in held.items())
                which[client] = places.setdefault(layout, len(places))
                digests[client] = torch.cat(list(held.values()))
        return cls([dict(layout) for layout in places], which, digests)

    def apart(self) -> dict[ClientId, Weights]:
        """The digests of each client by name, uint8 [items, 16]."""
        found: dict[ClientId, Weights] = {}
        for client, place in self.which.items():
            layout = self.layouts[place]
            parts = torch.split(self.digests[client], list(layout.values()))
            found[client] = dict(zip(layout, parts, strict=True))
        return found
