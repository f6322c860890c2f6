"""FedDPA: a global LoRA adapter learned by federation, and a local one that stays at each client.

Y. Yang, G. Long, T. Shen, J. Jiang, M. Blumenstein. "Dual-Personalizing Adapter for Federated Foundation
Models", NeurIPS 2024. Both training orders of the paper; at inference the fixed mix, not the one that is
weighted by each row's likeness to the client's training rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from fedlease.algorithms.registry import Method
from fedlease.algorithms.steps import PlainLora, Weighting, average, examples, met, to_all, train_lora
from fedlease.core.adapter import Adapter, Learn, Model, Modules, lora_init
from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import ClientId, Clients, ClientTask, Message, Site
from fedlease.core.weights import Weights, rename

LOCAL = {"A": "local_A", "B": "local_B"}
"""What the client's own adapter is called where it is kept, beside the global one's A and B."""


@dataclass(frozen=True)
class State:
    """The rounds done, the global adapter, the first local one, and who holds a local one already."""

    round: int
    weights: Weights
    start: Weights
    met: tuple[ClientId, ...] = ()


@dataclass(frozen=True)
class FedDPA(PlainLora):
    """A global LoRA adapter that is averaged and a local one that is kept, mixed where they are used.

    Trains A, B of both, one frozen while the other trains; sends up the global A, B; sends down the global
    A, B; keeps the local A, B.

    Attributes:
        rank: of each of the two adapters: half of what a method with one adapter has.
        mix: weight of the global adapter; the local one has ``1 - mix``.
        global_rounds: None is FedDPA-T: in every round but the first the client trains its local adapter with
            the mix, then the global one alone. A number is FedDPA-F: so many rounds of the global adapter
            alone, then, with it frozen, rounds of the local one in which nothing is sent up.
    """

    rank: int = 4
    mix: float = 0.5
    global_rounds: int | None = None
    weighting: Weighting = "uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.mix < 1:
            raise FedLeaseError(f"mix is {self.mix}: it must be at least 0 and below 1")
        if self.global_rounds is not None and self.global_rounds < 1:
            raise FedLeaseError(f"global_rounds is {self.global_rounds}: it must be at least 1")

    def check(self, rounds: int, clients: Collection[ClientId]) -> None:  # noqa: ARG002
        """Refuse a run in which the local adapters would never train."""
        if (self.global_rounds or 1) >= rounds:
            raise FedLeaseError(f"feddpa: of {rounds} rounds none is left to train the local adapters in")

    def init(self, modules: Modules, seed: int) -> State:
        """Both adapters start from the same seeded A and B = 0."""
        start = lora_init(modules, self.rank, seed)
        return State(0, start, rename(start, LOCAL))

    def round(self, state: State, clients: Clients) -> State:
        """Clients train one adapter or both; the mean of the global ones that come is the next one."""
        number = state.round + 1
        if number == 1 or (self.global_rounds is not None and number <= self.global_rounds):
            answers = clients.each("train_global", to_all(clients.ids, state.weights, number))
            return replace(state, round=number, weights=average(answers, self.weighting))
        down = to_all(clients.ids, state.weights, number, once=state.start, met=state.met)
        answers = clients.each("train_both" if self.global_rounds is None else "train_local", down)
        sent = any(answer.weights for answer in answers.values())
        weights = average(answers, self.weighting) if sent else state.weights
        return replace(state, round=number, weights=weights, met=met(state.met, answers))

    def train_global(self, down: Message, kept: Weights, site: Site) -> tuple[Message, Weights]:
        """Client: train the global adapter alone and send it up."""
        weights = rename(down.weights, {"A": "A", "B": "B"})
        return Message(train_lora(self.adapter, weights, down, site), examples(site)), kept

    def train_local(self, down: Message, kept: Weights, site: Site) -> tuple[Message, Weights]:
        """Client: train the local adapter with the global one frozen, in the mix, and keep it."""
        model = self._mixed(down.weights, kept or down.weights)
        learn = Learn(("A", "B"), round=int(down.facts["round"]), purpose="local")
        return Message(), rename(site.train(model, learn), LOCAL)

    def train_both(self, down: Message, kept: Weights, site: Site) -> tuple[Message, Weights]:
        """Client: the local adapter in the mix, then the global one alone."""
        _, kept = self.train_local(down, kept, site)
        return self.train_global(down, kept, site)

    def serve(self, state: State, client: ClientId) -> Message:  # noqa: ARG002
        """The global adapter."""
        return Message(state.weights)

    def deploy(self, down: Message, kept: Weights) -> Model:
        """The mix; the global adapter alone where there is no local one yet."""
        return self._mixed(down.weights, kept) if kept else Model(self.adapter, down.weights)

    def _mixed(self, shared: Weights, own: Weights) -> Model:
        """The local adapter at ``1 - mix``, with the global one at ``mix`` as its frozen companion."""
        scale = self.mix * self.alpha / self.rank
        fixed: dict[str, Tensor] = rename(shared, {"A": "fixed_A"})
        fixed |= {name: scale * b for name, b in rename(shared, {"B": "fixed_B"}).items()}
        adapter = Adapter(self.rank, (1 - self.mix) * self.alpha, self.dropout, fixed=self.rank)
        return Model(adapter, {**fixed, **rename(own, {kept: part for part, kept in LOCAL.items()})})

    @property
    def tasks(self) -> Mapping[str, ClientTask]:
        """What clients are asked to do."""
        return {
            "train_global": self.train_global,
            "train_local": self.train_local,
            "train_both": self.train_both,
        }

    def main_phase(self, modules: Modules, experts: int) -> tuple[tuple[Model, Learn], ...]:
        """Two adapters, A and B of both trained."""
        return 2 * super().main_phase(modules, experts)


METHODS = (Method("feddpa", FedDPA, "Yang et al., NeurIPS 2024"),)
