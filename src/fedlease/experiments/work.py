"""How much a run will train and score, counted by letting its method run on clients that only count."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import torch

from fedlease.core.adapter import Learn, Model
from fedlease.core.protocols import ClientId, Metrics
from fedlease.core.seeds import generator
from fedlease.core.weights import Weights, part
from fedlease.engines.drive import drive
from fedlease.engines.inprocess import InProcess
from fedlease.experiments.spec import Spec
from fedlease.training.remembered import SHARED
from fedlease.training.usage import MOST_ROWS

SCORING = 0.45
"""A row scored costs about this much of a row trained, where nothing is measured; see `pace`."""

KINDS = ("train", "loss", "score", "usage")
"""What is done with rows: trained on, asked the loss of, scored, asked which experts they use."""

Costs = Mapping[tuple[str, str], float]
"""Seconds that a row takes: by group of clients and kind of work."""

MODULES = {"query": (8, 8)}


def kind_of(purpose: str) -> str:
    """The kind of work that a site's word for what it does stands for; see `core.progress.Progress`."""
    return purpose if purpose in KINDS else "train"


@dataclass(frozen=True)
class Work:
    """Rows of a whole run.

    Attributes:
        rows: by group of clients and kind of work; rows trained on count once for every epoch.
        shared: name -> group, and rows of the trainings that other runs may have in common with this one.
    """

    rows: Mapping[tuple[str, str], int]
    shared: Mapping[str, tuple[str, int]]

    @property
    def trained(self) -> int:
        """Rows trained on."""
        return self._total("train")

    @property
    def scored(self) -> int:
        """Rows scored, and rows whose loss a method asks for."""
        return self._total("loss") + self._total("score")

    @property
    def size(self) -> float:
        """Everything in rows trained, other rows at the usual price."""
        return self.trained + SCORING * self.scored

    def seconds(self, costs: Costs) -> float:
        """Seconds that it takes one process."""
        return sum(costs[key] * rows for key, rows in self.rows.items())

    def _total(self, kind: str) -> int:
        return sum(rows for (_, of), rows in self.rows.items() if of == kind)


def work(spec: Spec, rows: Mapping[ClientId, tuple[int, int]] | None = None) -> Work:
    """Count what a run will do, in milliseconds: no data and no model is loaded.

    Args:
        spec: the run.
        rows: training and test rows of every client; None takes them from the spec, where a client that
            does not say how many counts as none.
    """
    algorithm, tally = spec.algorithm(), _Tally()
    asked = {c: (entry.train_rows or 0, entry.test_rows or 0) for entry in spec.clients for c in entry.ids}
    same = spec.model_dump(mode="json", exclude={"name", "method", "rounds", "score_every"})
    context = hashlib.blake2b(json.dumps(same, sort_keys=True).encode(), digest_size=16).hexdigest()
    group_of = {client: entry.name for entry in spec.clients for client in entry.ids}
    sites = {
        client: _CountingSite(client, group_of[client], *counts, spec.training.epochs, context, tally)
        for client, counts in (asked if rows is None else rows).items()
    }
    engine = InProcess(algorithm, sites)
    state = algorithm.init(MODULES, spec.seed)
    for done in drive(algorithm, state, engine, done=0, rounds=spec.rounds, score_every=spec.score_every):
        state = done.state
    for client, site in sites.items():
        if algorithm.deploy(algorithm.serve(state, client), engine.kept.get(client, {})).adapter.experts > 1:
            tally.rows[site.group, "usage"] += min(site.test_rows, MOST_ROWS)
    return Work(dict(tally.rows), tally.shared)


@dataclass
class _Tally:
    rows: Counter[tuple[str, str]] = field(default_factory=Counter)
    shared: dict[str, tuple[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class _CountingSite:
    """A `Site` that trains nothing; it moves weights a little, each client its way, so that they cluster."""

    client: ClientId
    group: str
    num_examples: int
    test_rows: int
    epochs: int
    context: str
    tally: _Tally

    def train(self, model: Model, learn: Learn) -> Weights:
        rows = self.num_examples * (learn.epochs or self.epochs)
        self.tally.rows[self.group, "train"] += rows
        if learn.purpose in SHARED:
            self.tally.shared[self._key(model, learn)] = (self.group, rows)
        moved = dict(model.weights)
        for name, tensor in model.weights.items():
            if part(name) in learn.parts:
                step = torch.randn(tensor.shape, generator=generator(0, self.client, name, learn.round))
                moved[name] = tensor + 0.01 * step
        return moved

    def loss(self, model: Model) -> float:  # noqa: ARG002
        self.tally.rows[self.group, "loss"] += self.num_examples
        return 1.0

    def score(self, model: Model) -> Metrics:  # noqa: ARG002
        self.tally.rows[self.group, "score"] += self.test_rows
        return {}

    def _key(self, model: Model, learn: Learn) -> str:
        about = [
            self.context,
            self.client,
            asdict(model.adapter),
            sorted(learn.parts),
            learn.round,
            learn.epochs,
        ]
        digest = hashlib.blake2b(json.dumps(about).encode(), digest_size=16)
        for _, tensor in sorted(model.weights.items()):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()
