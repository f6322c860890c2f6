"""Eight bits a number: blocks of values with a scale each, as the ``int8`` form sends them.

A block of ``BLOCK`` values is whole multiples, -127 to 127, of a 127th of its largest magnitude. Rounded to
the nearest, each number is off by at most half a step. Dithered, by less than a step, but right on average:
a number that is sent again and again and moves by less than half a step is not held where it was.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fedlease.core.weights import digest, items

BLOCK = 64
"""Values a scale: 1.06 bytes a number. LoRA's rows differ in size, so fewer values a scale round less:
docs/log.md tells by how much."""

LEVELS = 127
"""The largest multiple of a step; -128 is not used, so that the two signs are alike."""

SMALLEST = torch.finfo(torch.float32).tiny
"""The least step: below it float32 itself loses precision."""


def quantize(tensor: Tensor, *, dithered: bool = False) -> tuple[Tensor, Tensor]:
    """Return the multiples, int8 of the tensor's shape, and the steps of its blocks, float32.

    Every item (see `items`) has blocks of its own, so stacked experts can be sent one by one. A block with
    NaN or infinity in it has a step that is not finite and comes back as NaN throughout.

    Args:
        tensor: float32 [M, ., .], or of another number of dimensions, which is one item.
        dithered: round up or down by chance, by how near each is. The chances are drawn from what the item
            holds: the same content gives the same bits, whoever is sent it, and in whatever order.

    Returns:
        The multiples, and steps [M, blocks] or [blocks].
    """
    rows = items(tensor)
    count, size = rows.shape
    padded = functional.pad(rows, (0, -size % BLOCK)).view(count, -1, BLOCK)
    steps = (padded.abs().amax(dim=-1) / LEVELS).clamp(min=SMALLEST)
    ratio = padded / steps.unsqueeze(-1)
    rounded = (ratio + _dither(rows, ratio)).floor() if dithered else ratio.round()
    known = torch.isfinite(steps).unsqueeze(-1)
    levels = torch.where(known, rounded.clamp(-LEVELS, LEVELS), torch.zeros_like(rounded)).to(torch.int8)
    whole = levels.view(count, -1)[:, :size].reshape(tensor.shape)
    return whole, steps if tensor.dim() == 3 else steps[0]


def dequantize(levels: Tensor, steps: Tensor) -> Tensor:
    """Return the numbers that `quantize` sent, float32 of the shape of ``levels``."""
    rows = items(levels)
    each = steps.reshape(len(rows), -1).repeat_interleave(BLOCK, dim=1)[:, : rows.shape[1]]
    return (rows.to(torch.float32) * each).view(levels.shape)


def fits(levels: Tensor, steps: Tensor) -> bool:
    """Whether these can be what `quantize` gave: their shapes and dtypes."""
    if levels.dtype != torch.int8 or steps.dtype != torch.float32 or not levels.numel():
        return False
    count, size = items(levels).shape
    blocks = -(-size // BLOCK)
    return steps.shape == ((count, blocks) if levels.dim() == 3 else (blocks,))


def _dither(rows: Tensor, like: Tensor) -> Tensor:
    """Numbers in [0, 1) of the shape of ``like`` [M, blocks, BLOCK], drawn from what each row holds."""
    drawn = torch.empty_like(like)
    for row, into in zip(rows, drawn, strict=True):
        seed = int.from_bytes(digest(row)[:8], "little") >> 1
        into.copy_(torch.rand(into.shape, generator=torch.Generator().manual_seed(seed)))
    return drawn
