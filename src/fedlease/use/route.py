"""Which of a run's adapters fits new labelled rows, without training any."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from fedlease.core.adapter import Model
from fedlease.core.protocols import ClientId, Metrics
from fedlease.core.weights import part
from fedlease.data.sources import Table
from fedlease.training.site import TorchSite
from fedlease.use.finished import Finished
from fedlease.use.parts import evenly, expert


@dataclass(frozen=True)
class Candidate:
    """Something that could serve the new rows.

    Attributes:
        kind: ``"client"`` (what clients use, with their router), ``"expert"`` (one alone), ``"uniform"`` (all
            experts with the same weight) or ``"base"`` (no adapter).
        name: for people.
        clients: who uses it; empty where nobody does as it is.
        model: the adapter.
    """

    kind: str
    name: str
    clients: tuple[ClientId, ...]
    model: Model


@dataclass(frozen=True)
class Fit:
    """How well a candidate does on all rows: the mean loss, and the task's scores between 0 and 1."""

    kind: str
    name: str
    clients: tuple[ClientId, ...]
    loss: float
    metrics: Metrics


@dataclass(frozen=True)
class Routing:
    """What fits new rows.

    Attributes:
        rows: how many were looked at.
        labels: their labels, in the order of the model's outputs; none in generation.
        metric: the main score.
        fits: all candidates, the best first: by the main score, then by the loss.
    """

    rows: int
    labels: tuple[str, ...]
    metric: str
    fits: tuple[Fit, ...]

    @property
    def answer(self) -> str:
        """The best and the next one, in a sentence."""
        best, *others = self.fits
        told = f"{best.name} fits these {self.rows:,} rows best: {self._told(best)}, loss {best.loss:.3f}"
        told = told[0].upper() + told[1:]
        return told + (f"; next is {others[0].name} ({self._told(others[0])})." if others else ".")

    def _told(self, fit: Fit) -> str:
        return f"{self.metric} {100 * fit.metrics[self.metric]:.1f} %"

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values, with the answer."""
        return {**asdict(self), "answer": self.answer}


def route(finished: Finished, table: Table, watch: Callable[[str], None] = lambda _: None) -> Routing:
    """Score every expert alone, their uniform mixture, and what clients use on new rows; nothing is trained.

    Args:
        finished: the run.
        table: the rows; see `labelled.read_labelled`.
        watch: told of each candidate before it is scored.

    Raises:
        FedLeaseError: a row that the task cannot encode, or a run that cannot be used.
    """
    base, task, spec = finished.base, finished.spec.task, finished.spec
    rows = task.encode(table.train, base.tokenizer, spec.model.max_length)
    parts = (finished.resident, task, rows, rows, len(table.labels), spec.training, spec.seed)
    site = TorchSite("new rows", *parts)
    fits = []
    for each in candidates(finished):
        watch(each.name)
        loss, metrics = site.loss(each.model), site.score(each.model)
        fits.append(Fit(each.kind, each.name, each.clients, loss, dict(metrics)))
    fits.sort(key=lambda fit: (-fit.metrics[task.metric], fit.loss))
    return Routing(len(rows), table.labels, task.metric, tuple(fits))


def candidates(finished: Finished) -> list[Candidate]:
    """Return what can be tried: each different adapter once, with all clients that use it.

    Raises:
        FedLeaseError: an adapter that is missing or damaged.
    """
    used: dict[str, tuple[Model, list[ClientId]]] = {}
    for client in finished.clients:
        model = finished.model(client)
        used.setdefault(_digest(model), (model, []))[1].append(client)
    found = [Candidate("client", _of(clients), tuple(clients), model) for model, clients in used.values()]
    mixtures = [each for each in found if each.model.adapter.experts > 1]
    alone: dict[str, Candidate] = {}
    for each in mixtures:
        for index in range(each.model.adapter.experts):
            model = expert(each.model, index)
            alone.setdefault(_digest(model), Candidate("expert", f"expert {index} alone", (), model))
    found += alone.values()
    if mixtures:
        found.append(Candidate("uniform", "the uniform mixture", (), evenly(mixtures[0].model)))
    plain = next(iter(alone.values()), found[0]).model
    nothing = {n: torch.zeros_like(t) if part(n) == "B" else t for n, t in plain.weights.items()}
    return [*found, Candidate("base", "the base model alone", (), Model(plain.adapter, nothing))]


def _of(clients: Sequence[ClientId]) -> str:
    shown = list(clients) if len(clients) <= 4 else [*clients[:3], f"{len(clients) - 3} others"]
    return "the model of " + (f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else shown[0])


def _digest(model: Model) -> str:
    digest = hashlib.blake2b(repr(model.adapter).encode(), digest_size=16)
    for name, tensor in sorted(model.weights.items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
