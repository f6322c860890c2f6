"""The router against the formulas written out slot by slot."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedlease.core.errors import FedLeaseError
from fedlease.tuner.router import _chosen_by_counting, _chosen_by_sorting, adaptive_top_m, top_k

SHAPES = st.sampled_from([(), (1,), (5,), (2, 3), (2, 1, 3), (0,), (2, 0)])


def largest(logits: list[float], k: int) -> list[int]:
    """The k largest slots, the lower index first where logits are equal."""
    return sorted(range(len(logits)), key=lambda slot: (-logits[slot], slot))[:k]


def written_out(row: Tensor, k: int, own_slots: int, normalize: bool) -> Tensor:
    """One token: softmax, keep k slots, add slots 0..own_slots-1 to the assigned expert. Differentiable."""
    exps = [torch.exp(value - row.max().detach()) for value in row]
    weights = [value / sum(exps) for value in exps]
    kept = largest(row.tolist(), k)
    total = sum(weights[slot] for slot in kept) if normalize else 1.0
    experts = [torch.zeros((), dtype=row.dtype) for _ in range(len(row) - own_slots + 1)]
    for slot in kept:
        expert = 0 if slot < own_slots else slot - own_slots + 1
        experts[expert] = experts[expert] + weights[slot] / total
    return torch.stack(experts)


def compare(result: Tensor, logits: Tensor, wanted: list[Tensor], seed: int) -> None:
    """Equal values, and equal gradients of a random linear function of them."""
    reference = torch.stack(wanted).reshape(result.shape) if wanted else result.detach()
    torch.testing.assert_close(result, reference, rtol=1e-12, atol=1e-12)
    if not wanted:
        return
    by = torch.randn(result.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    ours, theirs = (torch.autograd.grad((value * by).sum(), logits)[0] for value in (result, reference))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def make(shape: tuple[int, ...], slots: int, seed: int, ties: bool) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    if ties:
        logits = torch.randint(-1, 2, (*shape, slots), generator=random).double()
    else:
        logits = 3 * torch.randn((*shape, slots), generator=random, dtype=torch.float64)
    return logits.requires_grad_()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), SHAPES, st.integers(0, 2**31), st.booleans(), st.booleans())
def test_adaptive_top_m_is_the_formula(
    experts: int, shape: tuple[int, ...], seed: int, ties: bool, normalize: bool
) -> None:
    logits = make(shape, 2 * experts - 1, seed, ties)
    result = adaptive_top_m(logits, experts, normalize)
    assert result.shape == (*shape, experts)
    rows = logits.reshape(-1, 2 * experts - 1) if logits.numel() else []
    compare(result, logits, [written_out(row, experts, experts, normalize) for row in rows], seed)
    assert (result[..., 0] > 0).all()
    if normalize:
        torch.testing.assert_close(result.sum(-1), torch.ones(shape, dtype=torch.float64))


@settings(max_examples=50, deadline=None)
@given(st.data(), st.integers(1, 12), SHAPES, st.integers(0, 2**31), st.booleans(), st.booleans())
def test_top_k_is_the_formula(
    data: st.DataObject, experts: int, shape: tuple[int, ...], seed: int, ties: bool, normalize: bool
) -> None:
    k = data.draw(st.integers(1, experts))
    logits = make(shape, experts, seed, ties)
    result = top_k(logits, k, normalize)
    rows = logits.reshape(-1, experts) if logits.numel() else []
    compare(result, logits, [written_out(row, k, 1, normalize) for row in rows], seed)
    assert ((result > 0).sum(-1) == k).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 24), st.integers(0, 2**31), st.booleans(), st.data())
def test_both_ways_of_choosing_agree(slots: int, seed: int, ties: bool, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, slots))
    columns = make((4, 2), slots, seed, ties).detach().movedim(-1, 0).contiguous()
    counted = _chosen_by_counting(columns, k)
    assert torch.equal(counted, _chosen_by_sorting(columns, k))
    assert (counted.sum(0) == k).all()


def test_gradient_by_finite_differences() -> None:
    logits = make((3,), 7, 11, ties=False)
    assert torch.autograd.gradcheck(lambda x: adaptive_top_m(x, 4), logits)
    assert torch.autograd.gradcheck(lambda x: adaptive_top_m(x, 4, True), logits)
    assert torch.autograd.gradcheck(lambda x: top_k(x, 3), logits)


def test_rescaled_weights_give_no_gradient_where_the_assigned_expert_is_alone() -> None:
    logits = torch.zeros(2, 5, dtype=torch.float64, requires_grad=True)
    own = torch.autograd.grad(adaptive_top_m(logits, 3, normalize=True)[:, 0].sum(), logits)[0]
    assert torch.equal(own, torch.zeros_like(own))
    own = torch.autograd.grad(adaptive_top_m(logits, 3)[:, 0].sum(), logits)[0]
    assert (own[:, :3] > 0).all()
    assert (own[:, 3:] < 0).all()


def test_equal_logits_choose_the_assigned_expert_alone() -> None:
    weights = adaptive_top_m(torch.zeros(2, 5), 3)
    torch.testing.assert_close(weights, torch.tensor([[3 / 5, 0, 0]] * 2))


def test_slots_after_the_first_m_are_the_other_experts_in_order() -> None:
    logits = torch.tensor([0.0, -5.0, -5.0, 1.0, 2.0])
    shares = torch.softmax(logits, 0)
    torch.testing.assert_close(adaptive_top_m(logits, 3), torch.stack([shares[0], shares[3], shares[4]]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_is_weighed_in_float32(dtype: torch.dtype) -> None:
    logits = torch.randn(6, 5).to(dtype)
    weights = adaptive_top_m(logits, 3)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.double(), adaptive_top_m(logits.double(), 3), rtol=1e-5, atol=1e-6)


def test_logits_apart_by_less_than_softmax_can_tell_are_still_ordered() -> None:
    # The last slot is the larger one, but both weights underflow to 0 in float32.
    logits = torch.tensor([0.0, -300.0, -200.0])
    kept = _chosen_by_counting(logits, 2)
    assert kept.tolist() == [True, False, True]


def test_many_experts() -> None:
    logits = torch.randn(3, 2 * 70 - 1, dtype=torch.float64)
    wanted = torch.stack([written_out(row, 70, 70, False) for row in logits])
    torch.testing.assert_close(adaptive_top_m(logits, 70), wanted)


def test_compiles_without_graph_breaks() -> None:
    compiled = torch.compile(adaptive_top_m, backend="eager", fullgraph=True)
    logits = torch.randn(4, 7)
    assert torch.equal(compiled(logits, 4), adaptive_top_m(logits, 4))


def test_errors_are_one_line() -> None:
    for call in (
        lambda: adaptive_top_m(torch.zeros(2, 4), 3),
        lambda: adaptive_top_m(torch.zeros(()), 1),
        lambda: adaptive_top_m(torch.zeros(2, 4), 0),
        lambda: top_k(torch.zeros(2, 4), 5),
        lambda: top_k(torch.zeros(2, 4), 0),
        lambda: top_k(torch.zeros(2, 0), 1),
    ):
        with pytest.raises(FedLeaseError) as caught:
            call()
        assert "\n" not in str(caught.value)
