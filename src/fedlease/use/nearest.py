"""The linear map nearest to a mixture on a client's own tokens, as one LoRA.

A router's weights go with its input, so what a mixture does on average is not what its experts do at their
mean weights. Part of what the router does token by token is linear in the token, and a LoRA can do that part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fedlease.core.adapter import Model
from fedlease.core.weights import module
from fedlease.tasks.base import Encoded
from fedlease.tasks.inference import Inference
from fedlease.training.site import TorchSite
from fedlease.tuner import FedLeaseLayer
from fedlease.use.parts import side_by_side

RIDGE = 1e-2
"""How far the fit is held to the mean weights, in units of the mean square of an input feature."""

ROOM = 2**30
"""Bytes of sums that are kept at once; where modules need more, the rows go through the network again."""


def nearest(site: TorchSite, model: Model, ridge: float = RIDGE) -> Model:
    """Return one LoRA of rank M r that is nearest to a mixture over the client's training tokens, by module.

    With ``z(x)`` [M r] the experts' ``w_m(x) A_m x`` side by side, the mixture adds ``alpha / r * B z(x)`` to
    a module's output, B [l, M r]. Over all tokens x the A' [M r, d] of least ``sum |z(x) - A' x|^2`` takes
    the place of the experts' A; the ridge draws it to ``E[w_m] A_m``, the experts at their mean weights.

    Args:
        site: the client's rows.
        model: a mixture, or an adapter of one expert, which comes back as it is with scale 1.
        ridge: above 0, so that inputs which never vary do no harm.

    Raises:
        FedLeaseError: the mixture has a frozen companion.
    """
    experts, rank = model.adapter.experts, model.adapter.rank
    paths = sorted({module(name) for name in model.weights})
    plain = side_by_side(model, {path: [1.0] * experts for path in paths})
    if experts == 1:
        return plain
    weights = dict(plain.weights)
    for group in _groups(model, paths):
        for path, sums in _sums(site, model, group).items():
            A = plain.weights[f"{path}.A"].double()
            start = sums.weights.repeat_interleave(rank)[:, None] / sums.tokens * A
            size = ridge * sums.inputs.trace() / len(sums.inputs)
            held = sums.inputs + size * torch.eye(len(sums.inputs), dtype=torch.float64)
            missed = sums.mixed - start @ sums.inputs
            weights[f"{path}.A"] = (start + torch.linalg.solve(held, missed.T).T).float()
    return Model(plain.adapter, weights)


class Sums:
    """Over the tokens x [d] that a module sees, in float64 on the CPU.

    Attributes:
        inputs: ``sum x x^T`` [d, d].
        mixed: ``sum z x^T`` [M r, d].
        weights: ``sum w`` [M].
        tokens: how many.
    """

    def __init__(self, model: Model, path: str) -> None:
        A = model.weights[f"{path}.A"].double()
        self._A = A if A.dim() == 3 else A.expand(model.adapter.experts, *A.shape)
        experts, rank, d = self._A.shape
        self.inputs = torch.zeros(d, d, dtype=torch.float64)
        self.mixed = torch.zeros(experts * rank, d, dtype=torch.float64)
        self.weights = torch.zeros(experts, dtype=torch.float64)
        self.tokens = 0

    def add(self, x: Tensor, weights: Tensor) -> None:
        """Count tokens x [n, d] with the weights of their experts [n, M]."""
        x, weights = x.double().cpu(), weights.double().cpu()
        z = torch.einsum("nd,mrd->nmr", x, self._A) * weights.unsqueeze(-1)
        self.inputs += x.T @ x
        self.mixed += z.flatten(1).T @ x
        self.weights += weights.sum(0)
        self.tokens += len(x)


def _sums(site: TorchSite, model: Model, paths: Sequence[str]) -> Mapping[str, Sums]:
    """The sums of these modules over all training rows, padding left out."""
    found = {path: Sums(model, path) for path in paths}

    def ask(network: nn.Module, rows: Encoded, inference: Inference) -> None:
        mask = torch.empty(0, dtype=torch.bool)

        def see(path: str, layer: FedLeaseLayer, x: Tensor) -> None:
            weights = layer.weights_of(x, layer.active_adapters[0])
            real = mask if x.dim() == 3 else torch.ones(len(x), dtype=torch.bool)  # one vector a row
            found[path].add(x[real], weights[real])

        with _seen(network, found, see):
            for indices in inference.batches(rows.lengths):
                batch = site.task.collate(rows, indices, inference.pad_id)
                batch = {name: tensor.to(inference.device) for name, tensor in batch.items()}
                mask = batch["attention_mask"].bool()
                site.task.loss(network, batch)

    site.infer(model, "score", site.train_rows, ask)
    return found


@contextmanager
def _seen(
    network: nn.Module, paths: Mapping[str, Sums], see: Callable[[str, FedLeaseLayer, Tensor], None]
) -> Iterator[None]:
    """While this is open, ``see`` gets path, layer and input of these modules at each forward pass."""
    layers = {path: network.get_submodule(path) for path in paths}
    handles = [
        layer.register_forward_pre_hook(lambda layer, inputs, path=path: see(path, layer, inputs[0]))
        for path, layer in layers.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _groups(model: Model, paths: Sequence[str]) -> Iterator[list[str]]:
    """The modules in groups whose sums have room together; at least one in each."""
    group: list[str] = []
    taken = 0
    for path in paths:
        size = 8 * model.weights[f"{path}.A"].shape[-1] ** 2
        if group and taken + size > ROOM:
            yield group
            group, taken = [], 0
        group.append(path)
        taken += size
    yield group
