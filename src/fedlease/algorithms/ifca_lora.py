"""IFCA + LoRA: k cluster adapters, and every client trains the one that fits its rows best.

A. Ghosh, J. Chung, D. Yin, K. Ramchandran. "An Efficient Framework for Clustered Federated Learning",
NeurIPS 2020, with a LoRA adapter in the place of the model.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from fedlease.algorithms.registry import Method
from fedlease.algorithms.steps import PlainLora, Weighting, average_within, examples, to_all, train_lora
from fedlease.core.adapter import Model, Modules, lora_init
from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import ClientId, Clients, ClientTask, Message, Site
from fedlease.core.seeds import derive
from fedlease.core.weights import Weights, stack, unstack

CHOICE = "cluster.choice"
"""The name under which a client keeps the cluster it chose last."""


@dataclass(frozen=True)
class State:
    """The server's state.

    Attributes:
        round: rounds done.
        seed: of the run; it says who starts the clusters.
        start: the common first A [r, d], B [l, r].
        clusters: stacked, A [k, r, d], B [k, l, r]; empty before the first round.
        choices: which cluster each client chose last.
    """

    round: int
    seed: int
    start: Weights
    clusters: Weights
    choices: Mapping[ClientId, int] = field(default_factory=dict)


@dataclass(frozen=True)
class IFCALoRA(PlainLora):
    """One LoRA adapter per cluster; each round a client takes the one of least training loss and trains it.

    Trains A, B of the chosen cluster; sends up A, B and the choice; sends down all k clusters' A, B; keeps
    the choice. With B = 0 all clusters would be the same function, so at first k clients, drawn by the seed,
    train alone, and each cluster starts from one of them.

    Attributes:
        clusters: k, which IFCA does not find out.
    """

    clusters: int = 4
    weighting: Weighting = "uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clusters < 1:
            raise FedLeaseError(f"clusters is {self.clusters}: it must be at least 1")

    def check(self, rounds: int, clients: Collection[ClientId]) -> None:  # noqa: ARG002
        """Refuse more clusters than clients to start them."""
        if self.clusters > len(clients):
            raise FedLeaseError(f"method.clusters is {self.clusters}, more than the {len(clients)} clients")

    def init(self, modules: Modules, seed: int) -> State:
        """Draw the common start."""
        return State(0, seed, lora_init(modules, self.rank, seed), {})

    def round(self, state: State, clients: Clients) -> State:
        """Clients choose and train; a cluster's adapter is the mean over who chose it."""
        number = state.round + 1
        clusters = state.clusters or self._first_clusters(state, clients)
        answers = clients.each("train", to_all(clients.ids, clusters, number))
        chosen = {client: int(answer.facts["choice"]) for client, answer in answers.items()}
        groups = [[c for c in chosen if chosen[c] == j] for j in range(_count(clusters))]
        after = average_within(groups, answers, clusters, self.weighting)
        return State(number, state.seed, state.start, after, {**state.choices, **chosen})

    def _first_clusters(self, state: State, clients: Clients) -> Weights:
        """Ask clients in an order drawn from the seed until k of them have trained alone."""
        waiting = sorted(clients.ids, key=lambda client: (derive(state.seed, "ifca", client), client))
        trained: list[Weights] = []
        while waiting and len(trained) < self.clusters:
            count = self.clusters - len(trained)
            asked, waiting = waiting[:count], waiting[count:]
            answers = clients.each("start", to_all(asked, state.start, state.round + 1))
            trained += [answers[client].weights for client in asked if client in answers]
        if len(trained) < self.clusters:
            raise FedLeaseError(
                f"ifca_lora: {len(trained)} client(s) answered, too few to start {self.clusters} clusters"
            )
        return stack(trained)

    def start(self, down: Message, kept: Weights, site: Site) -> tuple[Message, Weights]:
        """Client, before the first choice: train the common start alone and send it up."""
        return Message(train_lora(self.adapter, down.weights, down, site, purpose="start")), kept

    def train(self, down: Message, kept: Weights, site: Site) -> tuple[Message, Weights]:  # noqa: ARG002
        """Client: choose the cluster of least training loss (the lower of equals), train it, send it up."""
        each = [unstack(down.weights, j) for j in range(_count(down.weights))]
        losses = [site.loss(Model(self.adapter, weights)) for weights in each]
        choice = losses.index(min(losses))
        trained = train_lora(self.adapter, each[choice], down, site)
        return Message(trained, {**examples(site), "choice": choice}), {CHOICE: torch.tensor(choice)}

    def serve(self, state: State, client: ClientId) -> Message:  # noqa: ARG002
        """All clusters, or the common start before there are any."""
        return Message(state.clusters or state.start)

    def deploy(self, down: Message, kept: Weights) -> Model:
        """The adapter of the cluster chosen last; the first cluster's for a client that never chose."""
        if not _count(down.weights):
            return Model(self.adapter, down.weights)
        choice = int(kept[CHOICE]) if CHOICE in kept else 0
        return Model(self.adapter, unstack(down.weights, choice))

    @property
    def tasks(self) -> Mapping[str, ClientTask]:
        """What clients are asked to do."""
        return {"start": self.start, "train": self.train}

    def facts(self, state: State) -> Mapping[str, Any]:
        """Which cluster each client chose last."""
        return {"choices": dict(sorted(state.choices.items()))}


def _count(weights: Weights) -> int:
    """How many clusters are stacked; 0 for plain weights."""
    first = next(iter(weights.values()))
    return len(first) if first.dim() == 3 else 0


METHODS = (Method("ifca_lora", IFCALoRA, "Ghosh et al., NeurIPS 2020, with LoRA"),)
