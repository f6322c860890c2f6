"""Which experts a token uses, and with what weight: adaptive top-M (Eq. 5) and vanilla top-k (Eq. 4).

Pure functions of the router's logits. Slots lie on the last axis of the logits; inside they are moved to
the first one, because a reduction over a handful of neighbouring numbers cannot be vectorised: on a CPU that
way round is many times faster. ``benchmarks/router.py`` compares it with plainer ways.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedlease.core.errors import FedLeaseError


def adaptive_top_m(logits: Tensor, num_experts: int, normalize: bool = False) -> Tensor:
    """Return the weight of each expert under adaptive top-M routing (Eq. 5).

    A softmax runs over the 2M-1 slots and the M largest are kept. The first M slots belong to the assigned
    expert, slot M+k to the k-th other expert in index order. As there are only M-1 others, the assigned
    expert is always among those kept. Of equal logits the lower slot wins, so all-zero logits choose the
    assigned expert alone.

    Args:
        logits: [..., 2M-1], any float dtype.
        num_experts: M.
        normalize: whether the kept slots are rescaled to sum to 1 (Eq. 5 does not).

    Returns:
        [..., M], float32 (float64 for float64 logits): entry 0 is the assigned expert's sum of kept
        slots, then the other experts in index order, 0 where one was not kept. With M = 1: ones.

    Raises:
        FedLeaseError: ``num_experts`` below 1, or logits of another last dimension.
    """
    if num_experts < 1:
        raise FedLeaseError(f"num_experts is {num_experts}: a mixture needs at least one expert")
    _check_slots(logits, 2 * num_experts - 1, f"{num_experts} experts")
    kept = _kept(logits, num_experts, normalize)
    own = kept[:num_experts].sum(0, keepdim=True)
    return torch.cat([own, kept[num_experts:]]).movedim(0, -1)


def top_k(logits: Tensor, k: int, normalize: bool = False) -> Tensor:
    """Return the weight of each expert under vanilla top-k routing (Eq. 4).

    A softmax runs over the M slots, one an expert, and the k largest are kept; of equal logits the lower
    slot wins.

    Args:
        logits: [..., M], any float dtype; slot 0 is the assigned expert's, then the others in index order.
        k: experts to keep, 1..M.
        normalize: whether the kept slots are rescaled to sum to 1.

    Returns:
        [..., M], float32 (float64 for float64 logits), 0 where an expert was not kept.

    Raises:
        FedLeaseError: ``k`` outside 1..M, or logits without a last dimension.
    """
    _check_slots(logits, None, "at least one expert")
    if not 1 <= k <= logits.shape[-1]:
        raise FedLeaseError(f"top_k is {k}: it must be between 1 and the {logits.shape[-1]} experts")
    return _kept(logits, k, normalize).movedim(0, -1)


def _check_slots(logits: Tensor, slots: int | None, purpose: str) -> None:
    if logits.dim() == 0 or logits.shape[-1] == 0 or (slots is not None and logits.shape[-1] != slots):
        wanted = "" if slots is None else f" {slots}"
        shape = tuple(logits.shape)
        raise FedLeaseError(f"router logits of shape {shape}: {purpose} need a last axis of{wanted} slots")


def _kept(logits: Tensor, k: int, normalize: bool) -> Tensor:
    """Softmax over the slots with all but the k largest set to 0: [..., S] -> [S, ...]."""
    exact = torch.float64 if logits.dtype == torch.float64 else torch.float32
    columns = logits.movedim(-1, 0).to(exact).contiguous()
    weights = torch.softmax(columns, 0)
    counts = logits.device.type == "cpu" and logits.shape[-1] <= torch.iinfo(torch.int8).max
    chosen = _chosen_by_counting if counts else _chosen_by_sorting
    # The choice is made on the logits: softmax may round different ones to the same weight.
    kept = weights * chosen(columns.detach(), k)
    return kept / kept.sum(0, keepdim=True) if normalize else kept


def _chosen_by_counting(columns: Tensor, k: int) -> Tensor:
    """Mark the k largest of each column [S, ...], the earlier of equals first, by comparing every two slots.

    On a CPU this beats a sort up to about 16 experts, and the paper's upper bound is 8. S is at most 127.
    """
    slots = columns.shape[0]
    start = torch.arange(slots, dtype=torch.int8, device=columns.device)
    # How many slots beat this one: at first all earlier ones, put right pair by pair.
    rank = start.reshape(-1, *[1] * (columns.dim() - 1)).expand_as(columns).contiguous()
    for slot in range(slots - 1):
        beaten = (columns[slot + 1 :] > columns[slot]).view(torch.int8)
        rank[slot] += beaten.sum(0, dtype=torch.int8)
        rank[slot + 1 :] -= beaten
    return rank < k


def _chosen_by_sorting(columns: Tensor, k: int) -> Tensor:
    """Mark the same as `_chosen_by_counting` in a fixed, small number of kernels, for accelerators."""
    order = torch.sort(columns, dim=0, descending=True, stable=True).indices
    return torch.zeros_like(columns, dtype=torch.bool).scatter(0, order[:k], True)
