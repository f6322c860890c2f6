"""The products of a mixture against float64 by numpy, and their gradients against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fedlease.tuner import products

N, D, L = 6, 5, 3


def draw(*shape: int, dtype: torch.dtype = torch.float64, grad: bool = False) -> Tensor:
    return torch.randn(
        *shape, dtype=dtype, generator=torch.Generator().manual_seed(sum(shape))
    ).requires_grad_(grad)


@pytest.mark.parametrize("frozen_rows", [0, 1, 4])
def test_values(frozen_rows: int) -> None:
    x, trained, frozen = draw(N, D), draw(2, D), draw(frozen_rows, D)
    weight = np.concatenate([trained.numpy(), frozen.numpy()])
    np.testing.assert_allclose(
        products.down(x, trained, frozen).numpy(), weight @ x.numpy().T, rtol=1e-12, atol=1e-14
    )
    mixed, B, others = draw(2 + frozen_rows, N), draw(L, 2), draw(L, frozen_rows)
    weight = np.concatenate([B.numpy(), others.numpy()], 1)
    np.testing.assert_allclose(
        products.up(mixed, B, others).numpy(), mixed.numpy().T @ weight.T, rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize(
    "wanted", [(True, True, False), (False, True, False), (True, False, True), (True,) * 3]
)
def test_gradients_are_finite_differences(wanted: tuple[bool, bool, bool]) -> None:
    x, trained, frozen = (draw(*s, grad=g) for s, g in zip(((N, D), (2, D), (4, D)), wanted, strict=True))
    assert torch.autograd.gradcheck(products.down, (x, trained, frozen))
    mixed, B, others = (draw(*s, grad=g) for s, g in zip(((6, N), (L, 2), (L, 4)), wanted, strict=True))
    assert torch.autograd.gradcheck(products.up, (mixed, B, others))


def test_what_is_frozen_gets_no_gradient_and_parameters_theirs_in_their_own_dtype() -> None:
    x = draw(N, D, dtype=torch.bfloat16, grad=True)
    trained, frozen = draw(2, D, dtype=torch.float32, grad=True), draw(4, D, dtype=torch.float32)
    product = products.down(x, trained, frozen)
    assert product.dtype == torch.bfloat16
    product.sum().backward()
    assert frozen.grad is None
    assert trained.grad is not None
    assert x.grad is not None
    assert trained.grad.dtype == torch.float32
    # Each row of the weight's gradient is the sum of the tokens; bfloat16 keeps 8 bits.
    torch.testing.assert_close(trained.grad, x.detach().float().sum(0).expand(2, D), rtol=2**-7, atol=2**-6)
    assert x.grad.is_contiguous()  # so that adding it to the base layer's costs no other order of memory


def test_under_autocast() -> None:
    x, trained, frozen = (draw(n, D, dtype=torch.float32) for n in (N, 2, 4))
    B, others = draw(L, 2, dtype=torch.float32), draw(L, 4, dtype=torch.float32)
    leaves = [leaf.requires_grad_() for leaf in (x, trained, B)]
    with torch.autocast("cpu", torch.bfloat16):
        y = products.up(products.down(x, trained, frozen), B, others)
    assert y.dtype == torch.bfloat16
    got = torch.autograd.grad(y.float().square().sum(), leaves)
    whole = x.double() @ torch.cat([trained, frozen]).double().T @ torch.cat([B, others], 1).double().T
    expected = torch.autograd.grad(whole.square().sum(), leaves)
    for mine, reference in zip(got, expected, strict=True):
        assert mine.dtype == torch.float32
        assert float((mine - reference).norm() / reference.norm()) < 0.02
