"""Several clients trained in one pass through a frozen base, for `joint.py` to measure."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fedlease.core.adapter import Learn, Model
from fedlease.core.seeds import derive, generator
from fedlease.core.weights import Weights
from fedlease.tasks import classification
from fedlease.tasks.batching import batches
from fedlease.training.site import TorchSite


class Grouped(nn.Module):
    """A frozen linear module with an adapter for each of C clients, whose rows lie behind each other."""

    def __init__(self, base: nn.Module, A: Tensor, B: Tensor, scale: float) -> None:
        super().__init__()
        self.base, self.A, self.B, self.scale = base, nn.Parameter(A), nn.Parameter(B), scale

    def forward(self, x: Tensor) -> Tensor:
        """``y = W0 x + alpha / r B_c A_c x``: [C n, L, d] -> [C n, L, l], A [C, r, d], B [C, l, r]."""
        result: Tensor = self.base(x)
        down = torch.bmm(x.reshape(len(self.A), -1, x.shape[-1]), self.A.to(x.dtype).mT)
        up = torch.bmm(down, self.B.to(x.dtype).mT) * self.scale
        return result + up.reshape(result.shape)


class Joint:
    """All clients at once: the same first adapters, rows and settings as their sites have."""

    def __init__(self, bare: nn.Module, sites: Sequence[TorchSite], models: Sequence[Model]) -> None:
        self._sites, self._base = sites, sites[0].resident.base
        self._model = sharing(bare)
        setattr(self._model, self._base.head_name, nn.Identity())
        self._first = {
            name: torch.stack([model.weights[name] for model in models]) for name in models[0].weights
        }
        adapter = models[0].adapter
        scale = adapter.alpha / adapter.rank
        self._layers: dict[str, Grouped] = {}
        for path in self._base.modules:
            A, B = (self._first[f"{path}.{part}"].clone() for part in "AB")
            self._layers[path] = Grouped(self._model.get_submodule(path), A, B, scale)
            self._model.set_submodule(path, self._layers[path])
        self._model.train()

    def loss(self, plan: Sequence[Sequence[int]]) -> Tensor:
        """The mean loss [C] over each client's batch."""
        parts = [
            classification.collate(site.train_rows, rows, self._base.pad_id)
            for site, rows in zip(self._sites, plan, strict=True)
        ]
        batch = {name: torch.cat([part[name] for part in parts]) for name in parts[0] if name != "labels"}
        features = self._model(**batch).logits.split([len(rows) for rows in plan])
        losses = [
            classification.cross_entropy(self._base.heads[site.labels](x), part["labels"])
            for site, x, part in zip(self._sites, features, parts, strict=True)
        ]
        return torch.stack(losses)

    def gradients(self, plan: Sequence[Sequence[int]]) -> list[Weights]:
        """What each client's adapter is to learn from its batch."""
        self.loss(plan).sum().backward()
        found = {f"{p}.{k}": getattr(m, k).grad for p, m in self._layers.items() for k in "AB"}
        self._model.zero_grad(set_to_none=True)
        return [{name: tensor[c] for name, tensor in found.items()} for c in range(len(plan))]

    def train(self) -> list[list[float]]:
        """Train from the first adapters on; the loss of every step of each client."""
        settings = self._sites[0].settings
        parameters = [parameter for layer in self._layers.values() for parameter in (layer.A, layer.B)]
        with torch.no_grad():
            for path, layer in self._layers.items():
                layer.A.copy_(self._first[f"{path}.A"])
                layer.B.copy_(self._first[f"{path}.B"])
        optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.0, fused=True)
        curves = []
        for plan in zip(*map(planned, self._sites), strict=True):
            losses = self.loss(plan)
            curves.append(losses.tolist())
            losses.sum().backward()
            clip(parameters, settings.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return [list(curve) for curve in zip(*curves, strict=True)]


def sharing(model: nn.Module) -> nn.Module:
    """A copy of a model's modules that shares all of its weights."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})


def clip(parameters: Sequence[nn.Parameter], most: float) -> None:
    """Clip each client's gradients, a slice of every tensor, to a norm."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
    for gradient in gradients:
        gradient.mul_((most / (norms + 1e-6)).clamp(max=1.0).view(-1, 1, 1))


def planned(site: TorchSite) -> list[list[int]]:
    """The batches that a site makes of its rows in the first round."""
    settings, learn = site.settings, Learn()
    order = generator(derive(site.seed, site.client, learn.round, learn.purpose), "batches", 0)
    return batches(site.train_rows.lengths, settings.batch_size, pool=settings.pool, generator=order)
