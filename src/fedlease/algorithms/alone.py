"""What clients that trained alone are compared by: their update, and what of it they learned later."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from fedlease.core.protocols import ClientId, Message
from fedlease.core.weights import Weights, module, part, rename, select

FIRST = {"A": "first_A", "B": "first_B"}
"""The parts under which a client keeps, and sends, its adapter as it was after its first round alone."""


def as_first(own: Weights) -> dict[str, Tensor]:
    """Return a copy of an adapter's A [r, d] and B [l, r] under the names of `FIRST`."""
    return {name: tensor.clone() for name, tensor in rename(own, FIRST).items()}


def first_adapter(weights: Weights) -> dict[str, Tensor]:
    """Return the first adapter among what a client keeps or sends; empty where there is none."""
    return select(weights, FIRST.values())


class Each(Mapping[ClientId, Weights]):
    """What several clients are compared by: made when it is read, for there may be many.

    Args:
        answers: of clients that trained alone.
        made: gives for what one of them sent what it is compared by. To be compared in little memory, that
            reads its tensors when they are asked for.
    """

    def __init__(self, answers: Mapping[ClientId, Message], made: Callable[[Weights], Weights]) -> None:
        self._answers, self._made = answers, made

    def __getitem__(self, client: ClientId) -> Weights:
        return self._made(self._answers[client].weights)

    def __iter__(self) -> Iterator[ClientId]:
        return iter(self._answers)

    def __len__(self) -> int:
        return len(self._answers)


class WithLater(Mapping[str, Tensor]):
    """What a client is compared by: its update, and what of it was learned after the first round.

    Clients first learn what all tasks share and how their labels are balanced; a hard task shows later. What
    came later stands beside each module as a further one, ``{module}.later``: the update B A less the first
    round's, in factors of rank 2r, or for ``"b"`` B less the first round's. So a distance, which is a mean
    over modules, gives both the same weight. Without a first adapter there is the update alone. Each tensor
    is made when it is read.

    Args:
        up: A [r, d] and B [l, r] of every module, and ``first_A`` and ``first_B`` of the same shapes or none.
        distance: what will be compared, ``"b"`` or ``"product"``.
    """

    def __init__(self, up: Weights, distance: str) -> None:
        self._up, self._distance = up, distance
        kinds = {first: kind for kind, first in FIRST.items()}
        self._later = {
            f"{module(name)}.later.{kinds[part(name)]}": name for name in up if part(name) in kinds
        }
        self._names = [*(name for name in up if part(name) in FIRST), *self._later]

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._later:
            return self._up[name]
        first, kind = self._later[name], part(name)
        began, now = self._up[first], self._up[f"{module(first)}.{kind}"]
        if self._distance == "b":
            return now - began
        return torch.cat([now, began], 0) if kind == "A" else torch.cat([now, -began], 1)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
