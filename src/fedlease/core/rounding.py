"""In how many bits tensors cross the wire. All engines send messages through here, both ways.

``float32`` sends them as they are. ``bfloat16`` sends half the bytes: each number is rounded to the nearest
of 8 bits of precision, so by at most 1 part in 256 each way, and is float32 again on arrival. What a client
keeps is not touched. A form that remembers what it rounded away would have that beside what a client keeps.
"""

from __future__ import annotations

from typing import Literal

import torch

from fedlease.core.protocols import Message

WireForm = Literal["float32", "bfloat16"]


def packed(message: Message, form: WireForm) -> Message:
    """Return the message as it is sent: its float32 tensors in the form."""
    if form == "float32":
        return message
    return _cast(message, torch.float32, torch.bfloat16)


def unpacked(message: Message, form: WireForm) -> Message:
    """Return a message that was sent in a form as methods see it: in float32."""
    if form == "float32":
        return message
    return _cast(message, torch.bfloat16, torch.float32)


def _cast(message: Message, before: torch.dtype, after: torch.dtype) -> Message:
    weights = {
        name: tensor.to(after) if tensor.dtype == before else tensor
        for name, tensor in message.weights.items()
    }
    return Message(weights, message.facts)
