"""LoRA-FAIR: FedIT whose averaged B is corrected towards the mean of the clients' updates.

J. Bian, L. Wang, L. Zhang, J. Xu. "LoRA-FAIR: Federated LoRA Fine-Tuning with Aggregation and Initialization
Refinement", ICCV 2025. The mean of the products B_k A_k is not the product of the means; a small dB on the
server brings it near. The paper finds dB by gradient steps on a cosine similarity with a penalty on its
norm; here the distance is Frobenius', so dB has a closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedlease.algorithms.fedit import FedIT, State
from fedlease.algorithms.registry import Method
from fedlease.algorithms.steps import average, shares, to_all
from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import Clients
from fedlease.core.weights import Weights, module, select


@dataclass(frozen=True)
class LoRAFair(FedIT):
    """FedIT with a correction of the averaged B that minimises what averaging A and B apart loses.

    Trains A, B; sends up A, B; sends down the averaged A and the refined B; keeps nothing.

    Attributes:
        penalty: weight of ``||dB||^2`` beside ``||(B + dB) A - mean(B_k A_k)||^2``.
    """

    penalty: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.penalty > 0:
            raise FedLeaseError(f"penalty is {self.penalty}: it must be above 0")

    def round(self, state: State, clients: Clients) -> State:
        """All clients train the global adapter; its next A is their mean, its next B is refined."""
        answers = clients.each("train", to_all(clients.ids, state.weights, state.round + 1))
        mean = average(answers, self.weighting)
        sets = [answer.weights for answer in answers.values()]
        return State(state.round + 1, refine(mean, sets, shares(answers, self.weighting), self.penalty))


def refine(mean: Weights, sets: Sequence[Weights], by: Sequence[float], penalty: float) -> dict[str, Tensor]:
    """Return the averaged A and ``B + dB`` per module.

    ``dB = (mean_k(B_k A_k) - B A) A^T (A A^T + penalty I)^-1``: ridge regression, in float64 and without a
    full matrix, since ``B_k A_k A^T = B_k (A_k A^T)``.

    Args:
        mean: averaged A [r, d] and B [l, r].
        sets: the clients' A and B.
        by: their shares, which sum to 1.
        penalty: above 0.
    """
    refined = dict(mean)
    for key in select(mean, ("A",)):
        name = module(key)
        a, b = mean[key].double(), mean[f"{name}.B"].double()
        gram = a @ a.T
        missing = -b @ gram
        for share, weights in zip(by, sets, strict=True):
            missing += share * weights[f"{name}.B"].double() @ (weights[key].double() @ a.T)
        inside = gram + penalty * torch.eye(len(gram), dtype=torch.float64)
        correction = torch.linalg.solve(inside, missing.T).T  # the matrix is symmetric
        refined[f"{name}.B"] = (b + correction).to(mean[key].dtype)
    return refined


METHODS: Sequence[Method] = (Method("lora_fair", LoRAFair, "Bian et al., ICCV 2025"),)
