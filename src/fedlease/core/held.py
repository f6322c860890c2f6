"""What a client holds already is not sent again: in its place goes a hash of 16 bytes.

A client holds what it was last sent under each name, as it arrived. Stacked tensors, experts above all, are
held and sent item by item: of an expert that nobody trained the hash goes, of the others the weights. The
hash is of the content, so what a client holds is either the very bits or known to be something else.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import Message
from fedlease.core.rounding import SCALE
from fedlease.core.weights import DIGEST, Weights, digest, items

HELD = "held/"
"""What stands before a tensor's name in that of its items' hashes, uint8 [items, 16]: 0 for those sent."""


class LackingError(FedLeaseError):
    """A client does not hold what a message refers to: all of it has to be sent."""


def digests(weights: Weights) -> dict[str, Tensor]:
    """Return `HELD` name -> uint8 [items, 16] of every tensor that has values."""
    return {
        HELD + name: torch.tensor([list(one) for one in _hashes(tensor)], dtype=torch.uint8)
        for name, tensor in weights.items()
        if tensor.numel()
    }


def spared(sent: Message, now: Weights, known: Weights) -> Message:
    """Return a message without what its client holds.

    Args:
        sent: the message in the form in which it crosses.
        now: `digests` of it as it arrives.
        known: `digests` of what the client holds.
    """
    weights: dict[str, Tensor] = {}
    for name, tensor in sent.weights.items():
        if name.startswith(SCALE):
            continue  # it goes with its tensor
        key, steps = HELD + name, sent.weights.get(SCALE + name)
        same = _alike(now.get(key), known.get(key))
        pays = same is not None and int(same.sum()) * _row_bytes(tensor) > len(same) * DIGEST
        if same is not None and pays:
            weights[key] = now[key] * same.unsqueeze(1)
            if same.all():
                continue
            tensor, steps = tensor[~same], None if steps is None else steps[~same]
        weights[name] = tensor
        if steps is not None:
            weights[SCALE + name] = steps
    return Message(weights, sent.facts)


def restored(message: Message, held: Mapping[str, Tensor]) -> Message:
    """Put what a client holds in the place of hashes: the message as it was before `spared`, arrived.

    Raises:
        LackingError: it holds something else.
    """
    weights: dict[str, Tensor] = {}
    for name, tensor in message.weights.items():
        if name.startswith(HELD):
            whole = name.removeprefix(HELD)
            weights[whole] = _joined(whole, tensor, message.weights.get(whole), held.get(whole))
        elif HELD + name not in message.weights:
            weights[name] = tensor
    return Message(weights, message.facts)


def _joined(name: str, hashes: Tensor, sent: Tensor | None, held: Tensor | None) -> Tensor:
    """The tensor of which some items were sent and the others are held."""
    there = (hashes != 0).any(dim=1)
    if held is None or len(items(held)) != len(hashes) or not there.any():
        raise LackingError(f"{name} is not held here")
    for same, found, wanted in zip(there, _hashes(held), hashes, strict=True):
        if same and found != bytes(wanted.tolist()):
            raise LackingError(f"what is held of {name} is not what was sent")
    if sent is None:
        return held
    whole = held.clone()
    whole[~there] = sent
    return whole


def _hashes(tensor: Tensor) -> list[bytes]:
    """The hash of every item; of the same numbers in another shape it is another one."""
    about = f"{tensor.dim()} {tuple(tensor.shape[1:])}"
    return [digest(row, about) for row in items(tensor)]


def _row_bytes(tensor: Tensor) -> int:
    return items(tensor).shape[1] * tensor.element_size()


def _alike(now: Tensor | None, known: Tensor | None) -> Tensor | None:
    """Which items are the same; None where they cannot be compared."""
    if now is None or known is None or now.shape != known.shape:
        return None
    return (now == known).all(dim=1)
