"""The two products of a mixture, with weights of which only a part trains.

Tokens N lie on the last axis between them, so that what the router and the mixture do token by token runs
over neighbouring numbers. Autograd by itself would compute the gradient of a whole weight to throw the frozen
experts' part of it away; with many experts that is a large part of the backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def down(x: Tensor, trained: Tensor, frozen: Tensor | None) -> Tensor:
    """Return ``[trained; frozen] x^T``: [N, d], [t, d], [f, d] -> [t + f, N], in the dtype of ``x``.

    Gradients reach ``x`` and ``trained`` (in its own dtype), and ``frozen`` only where it requires one.
    """
    if frozen is None:
        return trained.to(x.dtype) @ x.T
    product: Tensor = _Product.apply(trained, frozen, x.T)  # type: ignore[no-untyped-call]
    return product


def up(mixed: Tensor, trained: Tensor, frozen: Tensor) -> Tensor:
    """Return ``mixed^T [trained, frozen]^T``: [t + f, N], [l, t], [l, f] -> [N, l]; otherwise as `down`."""
    product: Tensor = _TransposedProduct.apply(trained, frozen, mixed)  # type: ignore[no-untyped-call]
    return product


# Under autocast a product has another dtype than its factors, and so has the gradient that comes back: then
# they are cast to it, as autocast did before.


class _Product(torch.autograd.Function):
    """``[trained; frozen] columns``: rows of the weight are trained."""

    @staticmethod
    def forward(ctx: Any, trained: Tensor, frozen: Tensor, columns: Tensor) -> Tensor:
        weight = torch.cat([trained, frozen]).to(columns.dtype)
        ctx.save_for_backward(weight, columns)
        ctx.rows, ctx.exact = trained.shape[0], trained.dtype
        return weight @ columns

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, columns = ctx.saved_tensors
        parts = (gradient[: ctx.rows], gradient[ctx.rows :])
        wanted = ctx.needs_input_grad
        x = columns.to(gradient.dtype).T
        return (
            (parts[0] @ x).to(ctx.exact) if wanted[0] else None,
            (parts[1] @ x).to(ctx.exact) if wanted[1] else None,
            # Written so that the tokens' gradient lies in memory as the tokens do.
            (gradient.T @ weight.to(gradient.dtype)).to(columns.dtype).T if wanted[2] else None,
        )


class _TransposedProduct(torch.autograd.Function):
    """``columns^T [trained, frozen]^T``: columns of the weight are trained."""

    @staticmethod
    def forward(ctx: Any, trained: Tensor, frozen: Tensor, columns: Tensor) -> Tensor:
        weight = torch.cat([trained, frozen], 1).to(columns.dtype)
        ctx.save_for_backward(weight, columns)
        ctx.rows, ctx.exact = trained.shape[1], trained.dtype
        return columns.T @ weight.T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, columns = ctx.saved_tensors
        seen = columns.to(gradient.dtype)
        wanted = ctx.needs_input_grad
        return (
            (seen[: ctx.rows] @ gradient).T.to(ctx.exact) if wanted[0] else None,
            (seen[ctx.rows :] @ gradient).T.to(ctx.exact) if wanted[1] else None,
            (weight.to(gradient.dtype).T @ gradient.T).to(columns.dtype) if wanted[2] else None,
        )
