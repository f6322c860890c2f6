"""What a server sends in one exchange: rounded once, whoever it goes to, and without what clients hold."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from fedlease.core.held import HELD, digests, spared
from fedlease.core.protocols import Message
from fedlease.core.rounding import SCALE, WireForm, packed, unpacked
from fedlease.core.weights import Weights


@dataclass(frozen=True)
class Parcel:
    """A message on its way to one client.

    Attributes:
        sent: as it crosses: without what the client holds.
        full: as it crosses to a client that holds nothing.
        arrived: as the client's method sees it.
        digests: of what arrives, to know later what the client holds.
    """

    sent: Message
    full: Message
    arrived: Message
    digests: Weights


@dataclass(frozen=True)
class _Ready:
    """One tensor, made ready; ``tensor`` keeps it alive, so that no other lies where it does."""

    tensor: Tensor
    levels: Tensor
    steps: Tensor | None
    arrived: Tensor
    digest: Tensor | None


_Where = tuple[int, torch.Size, tuple[int, ...], torch.dtype]
"""Which bytes of memory a tensor is, and how they are read."""


@dataclass(frozen=True)
class Outgoing:
    """Makes the parcels of one exchange. What several clients are sent is worked on once.

    Attributes:
        wire: in what form tensors cross.
    """

    wire: WireForm
    _ready: dict[_Where, _Ready] = field(default_factory=dict)

    def parcel(self, message: Message, known: Weights) -> Parcel:
        """Make a message ready for a client that holds what these digests tell."""
        ready = {name: self._made(tensor) for name, tensor in message.weights.items()}
        full: dict[str, Tensor] = {}
        for name, one in ready.items():
            full[name] = one.levels
            if one.steps is not None:
                full[SCALE + name] = one.steps
        whole = Message(full, message.facts)
        arrived = Message({name: one.arrived for name, one in ready.items()}, message.facts)
        now = {HELD + name: one.digest for name, one in ready.items() if one.digest is not None}
        return Parcel(spared(whole, now, known), whole, arrived, now)

    def _made(self, tensor: Tensor) -> _Ready:
        # not its id: each client may be sent a view of its own of what is there once
        where = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if where not in self._ready:
            sent = packed(Message({"": tensor}), self.wire, dithered=True)
            arrived = unpacked(sent, self.wire).weights[""]
            digest = digests({"": arrived}).get(HELD)
            steps = sent.weights.get(SCALE)
            self._ready[where] = _Ready(tensor, sent.weights[""], steps, arrived, digest)
        return self._ready[where]
