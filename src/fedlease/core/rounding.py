"""In how many bits tensors cross the wire. All engines send messages through here, both ways.

``float32`` sends them as they are. ``bfloat16`` sends half the bytes: each number is rounded to the nearest
of 8 bits of precision, so by at most 1 part in 256 each way. ``int8`` sends a little over a quarter: see
`fedlease.core.blockwise`; tensors of fewer values than a block stay float32. What is not float32 (choices,
counts) and plain facts cross as they are. On arrival all is float32 again. What a client keeps is not
rounded.

What ``int8`` rounds away upwards is made good: `fed` adds it to the next upload of the same tensor. Downwards
nothing is kept for each client: dithering is right on average, and alike for all who are sent the same.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from fedlease.core.blockwise import BLOCK, dequantize, fits, quantize
from fedlease.core.protocols import Message
from fedlease.core.weights import Weights, items

WireForm = Literal["float32", "bfloat16", "int8"]

SCALE = "scale/"
"""What stands before a tensor's name in that of its blocks' steps."""

LOST = "lost/"
"""What stands before a tensor's name in that of what its last upload lost, beside what a client keeps."""


def packed(message: Message, form: WireForm, *, dithered: bool = False) -> Message:
    """Return the message as it is sent: its float32 tensors in the form."""
    if form == "float32":
        return message
    if form == "bfloat16":
        return _cast(message, torch.float32, torch.bfloat16)
    weights: dict[str, Tensor] = {}
    for name, tensor in message.weights.items():
        if tensor.dtype != torch.float32 or not tensor.numel() or items(tensor).shape[1] < BLOCK:
            weights[name] = tensor
        else:
            weights[name], weights[SCALE + name] = quantize(tensor, dithered=dithered)
    return Message(weights, message.facts)


def unpacked(message: Message, form: WireForm) -> Message:
    """Return a message that was sent in a form as methods see it: in float32.

    What is not of the form stays as it came: `fedlease.engines.uploads` refuses it by name.
    """
    if form == "float32":
        return message
    if form == "bfloat16":
        return _cast(message, torch.bfloat16, torch.float32)
    sent = message.weights
    whole = {name for name in sent if SCALE + name in sent and fits(sent[name], sent[SCALE + name])}
    steps = {SCALE + name for name in whole}
    weights = {
        name: dequantize(tensor, sent[SCALE + name]) if name in whole else tensor
        for name, tensor in sent.items()
        if name not in steps
    }
    return Message(weights, message.facts)


def fed(up: Message, lost: Weights, form: WireForm) -> tuple[Message, dict[str, Tensor]]:
    """Pack an upload with error feedback: what rounding lost before is added, what it loses now is kept.

    So the sum of what is received stays within one rounding of the sum of what was meant, however often a
    tensor is sent. ``bfloat16`` and ``float32`` keep nothing.

    Args:
        up: the upload as it is meant.
        lost: what `fed` gave with the upload before; nothing for the first.
        form: of the wire.

    Returns:
        The upload as it is sent, and what is lost now: `LOST` name -> float32 of the tensor's shape. Of
        tensors that are not in this upload it stays as it was.
    """
    if form != "int8":
        return packed(up, form), {}
    meant = {
        name: tensor + lost[LOST + name] if _same_shape(tensor, lost.get(LOST + name)) else tensor
        for name, tensor in up.weights.items()
    }
    sent = packed(Message(meant, up.facts), form)
    got = unpacked(sent, form).weights
    now = {LOST + name: meant[name] - got[name] for name in meant if SCALE + name in sent.weights}
    return sent, {**lost, **now}


def apart(kept: Weights) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Part what a client keeps into what its method does, and what uploads lost."""
    own = {name: tensor for name, tensor in kept.items() if not name.startswith(LOST)}
    return own, {name: tensor for name, tensor in kept.items() if name.startswith(LOST)}


def _same_shape(tensor: Tensor, lost: Tensor | None) -> bool:
    return lost is not None and lost.shape == tensor.shape


def _cast(message: Message, before: torch.dtype, after: torch.dtype) -> Message:
    weights = {
        name: tensor.to(after) if tensor.dtype == before else tensor
        for name, tensor in message.weights.items()
    }
    return Message(weights, message.facts)
