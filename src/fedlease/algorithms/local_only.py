"""Local-only: every client tunes its own LoRA adapter and nothing is shared. The floor of any federation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedlease.algorithms.registry import Method
from fedlease.algorithms.steps import lora_main_phase, met, train_lora
from fedlease.core.adapter import Adapter, Learn, Model, Modules, lora_init
from fedlease.core.protocols import ClientId, Clients, ClientTask, Message, Site
from fedlease.core.weights import Weights


@dataclass(frozen=True)
class State:
    """The rounds done, the common first weights of all clients, and who has them already."""

    round: int
    start: Weights
    met: tuple[ClientId, ...] = ()


@dataclass(frozen=True)
class LocalOnly:
    """Every client trains its own LoRA adapter alone, from the same seeded start.

    Trains A, B; sends up nothing; sends down the start, once; keeps A, B.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _ = self.adapter  # refuses a rank that cannot be

    @property
    def adapter(self) -> Adapter:
        """The shape of every client's adapter."""
        return Adapter(self.rank, self.alpha, self.dropout)

    def init(self, modules: Modules, seed: int) -> State:
        """Start from a seeded A and B = 0."""
        return State(0, lora_init(modules, self.rank, seed))

    def round(self, state: State, clients: Clients) -> State:
        """Every client goes on with its own adapter."""
        facts = {"round": state.round + 1}
        known = frozenset(state.met)
        down = {client: Message({} if client in known else state.start, facts) for client in clients.ids}
        answers = clients.each("train", down)
        return State(state.round + 1, state.start, met(state.met, answers))

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

    def main_phase(self, modules: Modules, experts: int) -> tuple[Model, Learn]:  # noqa: ARG002
        """One adapter, A and B trained."""
        return lora_main_phase(self.adapter, modules)

    def facts(self, state: State) -> Mapping[str, Any]:  # noqa: ARG002
        """Nothing beyond the scores."""
        return {}


METHODS = (Method("local_only", LocalOnly, "baseline without federation"),)
