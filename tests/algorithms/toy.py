"""A toy federation without a model: every number can be computed by hand.

A client pulls what it trains half of the way to its own target, tensor by tensor, in float32.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from fedlease.algorithms.registry import build
from fedlease.core.adapter import Learn, Model
from fedlease.core.protocols import Algorithm, ClientId, Message, Metrics
from fedlease.core.weights import Weights, part
from fedlease.engines.exchange import run_task
from fedlease.engines.inprocess import InProcess

MODULES = {"layer.0.query": (3, 4), "layer.0.value": (2, 4)}


@dataclass
class ToySite:
    """A site whose data is one number: where its tensors are pulled to."""

    target: float
    num_examples: int = 1

    def train(self, model: Model, learn: Learn) -> Weights:
        trained = {}
        for name, tensor in model.weights.items():
            new = tensor.clone()
            if part(name) in learn.parts:
                own = new[model.adapter.assigned] if model.adapter.stacked(part(name)) else new
                own += 0.5 * (self._goal(own) - own)
            trained[name] = new
        return trained

    def _goal(self, like: Tensor) -> Tensor:
        """A pattern of its own for every target, so that cosines between clients differ."""
        wave = torch.arange(like.numel(), dtype=torch.float32).reshape(like.shape)
        return torch.cos(wave * (1 + self.target)) + self.target

    def loss(self, model: Model) -> float:
        return float(sum((self._goal(t) - t).square().sum() for t in model.weights.values()))

    def score(self, model: Model) -> Metrics:
        return {"accuracy": 1 / (1 + self.loss(model))}


@dataclass
class WatchedSite(ToySite):
    """A toy site that remembers what it was given to train."""

    seen: list[tuple[Model, Learn]] = field(default_factory=list)

    def train(self, model: Model, learn: Learn) -> Weights:
        self.seen.append((model, learn))
        return super().train(model, learn)


class Without(InProcess):
    """An engine that cannot reach one client."""

    def __init__(self, engine: InProcess, algorithm: Algorithm[Any], gone: ClientId) -> None:
        super().__init__(algorithm, engine._sites)
        self.kept, self._gone = engine.kept, gone

    @property
    def ids(self) -> tuple[ClientId, ...]:
        return tuple(client for client in super().ids if client != self._gone)


class ThroughBytes(InProcess):
    """An engine that sends every message through bytes, and rebuilds the method at the client."""

    def __init__(self, name: str, settings: Mapping[str, Any], sites: Mapping[ClientId, ToySite]) -> None:
        super().__init__(build(name, **settings), sites)
        self._rebuild = lambda: build(name, **settings)

    def each(self, task: str, down: Mapping[ClientId, Message]) -> dict[ClientId, Message]:
        answers = {}
        for client in sorted(down, reverse=True):
            kept = load(save(dict(self.kept.get(client, {}))))
            site = self._sites[client]
            up, keeps = run_task(self._rebuild(), task, through_bytes(down[client]), kept, site)
            answers[client] = through_bytes(up)
            self.kept[client] = keeps
        return dict(sorted(answers.items()))


class Unreliable(InProcess):
    """An engine where some clients do not answer in some rounds: (round, client) pairs."""

    missing: frozenset[tuple[int, ClientId]] = frozenset()

    def each(self, task: str, down: Mapping[ClientId, Message]) -> dict[ClientId, Message]:
        there = {c: m for c, m in down.items() if (m.facts.get("round"), c) not in self.missing}
        return super().each(task, there)


class Recorder:
    """Clients whose answers are remembered."""

    def __init__(self, engine: InProcess) -> None:
        self.engine, self.ids = engine, engine.ids
        self.all: list[tuple[str, dict[ClientId, Message]]] = []

    def each(self, task: str, down: Mapping[ClientId, Message]) -> dict[ClientId, Message]:
        self.last = self.engine.each(task, down)
        self.all.append((task, self.last))
        return self.last


def through_bytes(message: Message) -> Message:
    """A copy of the message that has been bytes."""
    tensors = {name: tensor.contiguous() for name, tensor in message.weights.items()}
    return Message(load(save(tensors)), json.loads(json.dumps(dict(message.facts))))


def sites(targets: Mapping[ClientId, float]) -> dict[ClientId, ToySite]:
    """A site for each client."""
    return {client: ToySite(target) for client, target in targets.items()}


def play(algorithm: Algorithm[Any], engine: InProcess, rounds: int, seed: int = 0) -> Any:
    """The state after some rounds."""
    return play_on(algorithm, algorithm.init(MODULES, seed), engine, rounds)


def play_on(algorithm: Algorithm[Any], state: Any, engine: InProcess, rounds: int) -> Any:
    """The state after some more rounds."""
    for _ in range(rounds):
        state = algorithm.round(state, engine)
    return state


def models(algorithm: Algorithm[Any], state: Any, engine: InProcess) -> dict[ClientId, Model]:
    """What every client would use now."""
    return {
        client: algorithm.deploy(algorithm.serve(state, client), engine.kept.get(client, {}))
        for client in engine.ids
    }


def equal(first: Weights, second: Weights) -> bool:
    """Bit-equal names, shapes and values."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
