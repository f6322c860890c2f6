"""The round loop: the same for every method and every engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

from fedlease.core.protocols import Algorithm, ClientId, Clients, Metrics
from fedlease.core.weights import Weights
from fedlease.engines.exchange import SCORE, Traffic


class Engine(Clients, Protocol):
    """Clients whose traffic is counted."""

    @property
    def kept(self) -> Mapping[ClientId, Weights]:
        """What a checkpoint needs of every client's private memory: the memory itself, or what names it."""

    @property
    def holds(self) -> Mapping[ClientId, Weights]:
        """The digests of what every client holds of what it was sent."""

    def take_traffic(self) -> Traffic:
        """Return what was counted so far and start again at zero."""


@dataclass(frozen=True)
class Round:
    """What one round left behind.

    Attributes:
        number: the round, from 1.
        state: the method's state after it.
        metrics: each client's scores with the model it would use now; empty in rounds that are not scored.
        traffic: bytes exchanged, and whose answers were left out.
        seconds: wall time of the round with its scoring.
    """

    number: int
    state: Any
    metrics: dict[ClientId, Metrics]
    traffic: Traffic
    seconds: float


def drive(
    algorithm: Algorithm[Any], state: Any, engine: Engine, *, done: int, rounds: int, score_every: int = 1
) -> Iterator[Round]:
    """Run rounds ``done + 1 .. rounds``, scoring every ``score_every``-th and the last one."""
    for number in range(done + 1, rounds + 1):
        began = perf_counter()
        state = algorithm.round(state, engine)
        metrics: dict[ClientId, Metrics] = {}
        if number % score_every == 0 or number == rounds:
            answers = engine.each(SCORE, {client: algorithm.serve(state, client) for client in engine.ids})
            metrics = {client: _numbers(answer.facts) for client, answer in answers.items()}
        yield Round(number, state, metrics, engine.take_traffic(), perf_counter() - began)


def _numbers(facts: Any) -> dict[str, float]:
    return {name: float(value) for name, value in facts.items()}
