"""Local-only: every client tunes its own LoRA adapter and nothing is shared. The floor of any federation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedlease.algorithms.registry import Method
from fedlease.algorithms.steps import PlainLora, met, to_all, train_lora
from fedlease.core.adapter import Model, Modules, lora_init
from fedlease.core.protocols import ClientId, Clients, ClientTask, Message, Site
from fedlease.core.weights import Weights


@dataclass(frozen=True)
class State:
    """The rounds done, the common first weights of all clients, and who has them already."""

    round: int
    start: Weights
    met: tuple[ClientId, ...] = ()


@dataclass(frozen=True)
class LocalOnly(PlainLora):
    """Every client trains its own LoRA adapter alone, from the same seeded start.

    Trains A, B; sends up nothing; sends down the start, once; keeps A, B.
    """

    def init(self, modules: Modules, seed: int) -> State:
        """Start from a seeded A and B = 0."""
        return State(0, lora_init(modules, self.rank, seed))

    def round(self, state: State, clients: Clients) -> State:
        """Every client goes on with its own adapter."""
        number = state.round + 1
        answers = clients.each("train", to_all(clients.ids, {}, number, once=state.start, met=state.met))
        return State(number, state.start, met(state.met, answers))

    def train(self, down: Message, kept: Weights, site: Site) -> tuple[Message, Weights]:
        """Client: train its own adapter, or the start if it has none yet; keep it."""
        return Message(), train_lora(self.adapter, kept or down.weights, down, site)

    def serve(self, state: State, client: ClientId) -> Message:  # noqa: ARG002
        """The start, for a client that has not trained yet."""
        return Message(state.start)

    def deploy(self, down: Message, kept: Weights) -> Model:
        """The client's own adapter."""
        return Model(self.adapter, kept or down.weights)

    @property
    def tasks(self) -> Mapping[str, ClientTask]:
        """What clients are asked to do."""
        return {"train": self.train}


METHODS = (Method("local_only", LocalOnly, "baseline without federation"),)
