"""The mixture that is expected over a client's data, and LoRA adapters cut to a given rank."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedlease.core.adapter import Adapter, Model
from fedlease.core.errors import FedLeaseError
from fedlease.core.weights import module, select
from fedlease.training.site import TorchSite
from fedlease.use.parts import side_by_side


@dataclass(frozen=True)
class Folded:
    """A LoRA adapter that stands for a mixture.

    Attributes:
        model: the adapter, of one expert, with scale 1.
        lost: what the rank cuts off: norm of the difference to the expected update over that update's norm,
            over all modules together, between 0 and 1.
    """

    model: Model
    lost: float


def expected(site: TorchSite, model: Model) -> Model:
    """Return the mixture with every module's experts at their mean weights over the client's training tokens.

    It is one LoRA of rank M r: ``alpha / r * sum_m E[w_m] B_m A_m``.
    """
    if model.adapter.experts == 1:
        return side_by_side(model, {module(name): [1.0] for name in model.weights})
    used = site.usage(model, site.train_rows)
    return side_by_side(model, {path: of.weights for path, of in used.items()})


def fold(model: Model, rank: int) -> Folded:
    """Return the nearest LoRA of at most that rank to an adapter of one expert, module by module.

    Nearest in the Frobenius norm: the truncated singular value decomposition of ``alpha / r B A``, found from
    QR decompositions of B [l, r] and A^T [d, r], so that nothing of the size [l, d] is ever made. In float64.

    Raises:
        FedLeaseError: a rank below 1, or an adapter of several experts or with a frozen companion.
    """
    adapter = model.adapter
    if rank < 1:
        raise FedLeaseError(f"rank is {rank}: it must be at least 1")
    if adapter.experts > 1 or adapter.fixed:
        raise FedLeaseError("only an adapter of one expert can be folded: put its experts side by side first")
    rank = min(rank, adapter.rank)
    weights: dict[str, Tensor] = {}
    whole, left_out = 0.0, 0.0
    for name, A in select(model.weights, ("A",)).items():
        path = module(name)
        B = model.weights[f"{path}.B"]
        left, values, right = decomposed(B * (adapter.alpha / adapter.rank), A)
        whole += float(values.square().sum())
        left_out += float(values[rank:].square().sum())
        # A module smaller than the rank has fewer directions; zeros fill it up, so that all have one rank.
        root = values[:rank].sqrt()
        down = torch.zeros(rank, A.shape[1], dtype=torch.float64)
        up = torch.zeros(B.shape[0], rank, dtype=torch.float64)
        down[: len(root)] = root[:, None] * right[:rank]
        up[:, : len(root)] = left[:, :rank] * root
        weights |= {name: down.float(), f"{path}.B": up.float()}
    lost = (left_out / whole) ** 0.5 if whole else 0.0
    return Folded(Model(Adapter(rank, alpha=float(rank)), weights), lost)


def decomposed(B: Tensor, A: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return U [l, k], S [k] and V^T [k, d] of B [l, r] times A [r, d], in float64, largest S first.

    k is the smallest of l, r and d. ``B A = Q_B (R_B R_A^T) Q_A^T``, and the middle is [r, r] at most.
    """
    q_left, r_left = torch.linalg.qr(B.double())
    q_right, r_right = torch.linalg.qr(A.double().T)
    left, values, right = torch.linalg.svd(r_left @ r_right.T, full_matrices=False)
    return q_left @ left, values, right @ q_right.T
