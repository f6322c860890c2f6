"""FFA-LoRA: A is random, frozen and the same for all; only B is trained and averaged.

Y. Sun, Z. Li, Y. Li, B. Ding. "Improving LoRA in Privacy-Preserving Federated Learning", ICLR 2024. With
one A for all, the mean of B is the exact mean of the updates B A, and noise on B is not multiplied by noise
on A.
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
    """The rounds done, the frozen A [r, d], the global B [l, r], and who holds A already."""

    round: int
    frozen: Weights
    weights: Weights
    met: tuple[ClientId, ...] = ()


@dataclass(frozen=True)
class FFALoRA(PlainLora):
    """One global LoRA adapter whose random A is frozen: clients train B, the server averages B.

    Trains B; sends up B; sends down B, and A once; keeps A.
    """

    weighting: Weighting = "uniform"

    def init(self, modules: Modules, seed: int) -> State:
        """Draw A from the seed; B = 0."""
        start = lora_init(modules, self.rank, seed)
        return State(0, select(start, ("A",)), select(start, ("B",)))

    def round(self, state: State, clients: Clients) -> State:
        """All clients train B from the global one; the mean of who answered is the next one."""
        number = state.round + 1
        down = to_all(clients.ids, state.weights, number, once=state.frozen, met=state.met)
        answers = clients.each("train", down)
        return State(number, state.frozen, average(answers, self.weighting), met(state.met, answers))

    def train(self, down: Message, kept: Weights, site: Site) -> tuple[Message, Weights]:
        """Client: train B, send it up, keep A."""
        model = self.deploy(down, kept)
        trained = site.train(model, Learn(("B",), round=int(down.facts["round"])))
        return Message(select(trained, ("B",)), examples(site)), select(trained, ("A",))

    def serve(self, state: State, client: ClientId) -> Message:  # noqa: ARG002
        """Everyone uses the global adapter."""
        return Message({**state.frozen, **state.weights})

    def deploy(self, down: Message, kept: Weights) -> Model:
        """The global adapter."""
        return Model(self.adapter, {**kept, **down.weights})

    @property
    def tasks(self) -> Mapping[str, ClientTask]:
        """What clients are asked to do."""
        return {"train": self.train}

    def main_phase(self, modules: Modules, experts: int) -> tuple[tuple[Model, Learn], ...]:  # noqa: ARG002
        """One adapter, of which B trains."""
        return ((Model(self.adapter, lora_init(modules, self.rank, 0)), Learn(("B",))),)


METHODS = (Method("ffa_lora", FFALoRA, "Sun et al., ICLR 2024"),)
