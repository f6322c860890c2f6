"""FedSA-LoRA: A is shared and averaged, every client keeps its own B.

P. Guo, S. Zeng, Y. Wang, H. Fan, F. Wang, L. Qu. "Selective Aggregation for Low-Rank Adaptation in Federated
Learning", ICLR 2025: A learns what clients have in common, B what is their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedlease.algorithms.registry import Method
from fedlease.algorithms.steps import PlainLora, Weighting, average, examples, met, to_all
from fedlease.core.adapter import Learn, Model, Modules, lora_init
from fedlease.core.protocols import ClientId, Clients, ClientTask, Message, Site
from fedlease.core.weights import Weights, select


@dataclass(frozen=True)
class State:
    """The rounds done, the global A [r, d], the B [l, r] all start from, and who has a B of its own."""

    round: int
    weights: Weights
    start: Weights
    met: tuple[ClientId, ...] = ()


@dataclass(frozen=True)
class FedSALoRA(PlainLora):
    """A shared A and a B of each client's own: clients train both, the server averages A.

    Trains A, B; sends up A; sends down A, and the first B once; keeps B.
    """

    weighting: Weighting = "uniform"

    def init(self, modules: Modules, seed: int) -> State:
        """Start from a seeded A and B = 0."""
        start = lora_init(modules, self.rank, seed)
        return State(0, select(start, ("A",)), select(start, ("B",)))

    def round(self, state: State, clients: Clients) -> State:
        """All clients train the global A with their own B; the mean A of who answered is the next one."""
        number = state.round + 1
        down = to_all(clients.ids, state.weights, number, once=state.start, met=state.met)
        answers = clients.each("train", down)
        return State(number, average(answers, self.weighting), state.start, met(state.met, answers))

    def train(self, down: Message, kept: Weights, site: Site) -> tuple[Message, Weights]:
        """Client: train A and its own B, send up A, keep B."""
        model = self.deploy(down, kept)
        trained = site.train(model, Learn(("A", "B"), round=int(down.facts["round"])))
        return Message(select(trained, ("A",)), examples(site)), select(trained, ("B",))

    def serve(self, state: State, client: ClientId) -> Message:  # noqa: ARG002
        """The global A, and the first B for a client that has none of its own."""
        return Message({**state.weights, **state.start})

    def deploy(self, down: Message, kept: Weights) -> Model:
        """The global A with the client's own B."""
        return Model(self.adapter, {**down.weights, **kept})

    @property
    def tasks(self) -> Mapping[str, ClientTask]:
        """What clients are asked to do."""
        return {"train": self.train}


METHODS = (Method("fedsa_lora", FedSALoRA, "Guo et al., ICLR 2025"),)
