"""FedIT: one LoRA adapter for all, averaged every round.

J. Zhang, S. Vahidian, M. Kuo, C. Li, R. Zhang, T. Yu, G. Wang, Y. Chen. "Towards Building the FederatedGPT:
Federated Instruction Tuning", ICASSP 2024. FedAvg (McMahan et al. 2017) on LoRA's A and B.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedlease.algorithms.registry import Method
from fedlease.algorithms.steps import PlainLora, Weighting, average, examples, to_all, train_lora
from fedlease.core.adapter import Model, Modules, lora_init
from fedlease.core.protocols import ClientId, Clients, ClientTask, Message, Site
from fedlease.core.weights import Weights


@dataclass(frozen=True)
class State:
    """The rounds done, and the global adapter: A [r, d], B [l, r] per module."""

    round: int
    weights: Weights


@dataclass(frozen=True)
class FedIT(PlainLora):
    """One global LoRA adapter: every client trains it, the server averages A and B.

    Trains A, B; sends up A, B; sends down A, B; keeps nothing.
    """

    weighting: Weighting = "uniform"

    def init(self, modules: Modules, seed: int) -> State:
        """Start from a seeded A and B = 0."""
        return State(0, lora_init(modules, self.rank, seed))

    def round(self, state: State, clients: Clients) -> State:
        """All clients train the global adapter; the mean of who answered is the next one."""
        answers = clients.each("train", to_all(clients.ids, state.weights, state.round + 1))
        return State(state.round + 1, average(answers, self.weighting))

    def train(self, down: Message, kept: Weights, site: Site) -> tuple[Message, Weights]:
        """Client: train what came down, send it up."""
        return Message(train_lora(self.adapter, down.weights, down, site), examples(site)), kept

    def serve(self, state: State, client: ClientId) -> Message:  # noqa: ARG002
        """Everyone uses the global adapter."""
        return Message(state.weights)

    def deploy(self, down: Message, kept: Weights) -> Model:  # noqa: ARG002
        """The global adapter."""
        return Model(self.adapter, down.weights)

    @property
    def tasks(self) -> Mapping[str, ClientTask]:
        """What clients are asked to do."""
        return {"train": self.train}


METHODS = (Method("fedit", FedIT, "Zhang et al., ICASSP 2024"),)
