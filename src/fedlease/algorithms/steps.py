"""What methods share: averaging answers, and a client that trains the adapter it was sent."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from fedlease.core.adapter import Adapter, Learn, Model, Modules, lora_init
from fedlease.core.protocols import ClientId, Fact, Message, Site
from fedlease.core.weights import Weights, mean, stack, unstack

Weighting = Literal["uniform", "examples"]
"""How a server weights its clients: plainly (FedLEASE's paper), or by training rows (FedAvg)."""


@dataclass(frozen=True)
class PlainLora:
    """What methods with one plain LoRA adapter a client have in common: its hyperparameters.

    Attributes:
        rank, alpha, dropout: of the adapter; the update is ``alpha / rank * B A``.
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

    def main_phase(self, modules: Modules, experts: int) -> tuple[tuple[Model, Learn], ...]:  # noqa: ARG002
        """One adapter, A and B trained."""
        return ((Model(self.adapter, lora_init(modules, self.rank, 0)), Learn(("A", "B"))),)

    def facts(self, state: Any) -> Mapping[str, Any]:  # noqa: ARG002
        """Nothing beyond the scores."""
        return {}


def shares(answers: Mapping[ClientId, Message], weighting: Weighting) -> list[float]:
    """The weight of every answer, in order; they sum to 1."""
    each = [1.0 if weighting == "uniform" else float(up.facts["examples"]) for up in answers.values()]
    return [one / sum(each) for one in each]


def average(answers: Mapping[ClientId, Message], weighting: Weighting) -> dict[str, Tensor]:
    """Average what clients sent up, plainly or in proportion to their ``examples``."""
    sets = [answer.weights for answer in answers.values()]
    if weighting == "uniform":
        return mean(sets)
    return mean(sets, [float(answer.facts["examples"]) for answer in answers.values()])


def average_within(
    groups: Sequence[Collection[ClientId]],
    answers: Mapping[ClientId, Message],
    before: Weights,
    weighting: Weighting,
) -> dict[str, Tensor]:
    """Average what the clients of each group sent up: stacked weights [groups, ...].

    What a group did not send stays as it was ``before``: all of it, where nobody of the group answered.
    """
    after = []
    for index, group in enumerate(groups):
        members = {client: answers[client] for client in sorted(group) if client in answers}
        trained = average(members, weighting) if members else {}
        after.append({name: trained.get(name, old) for name, old in unstack(before, index).items()})
    return stack(after)


def to_all(
    clients: Sequence[ClientId],
    weights: Weights,
    round: int,
    *,
    once: Weights | None = None,
    met: Collection[ClientId] = (),
    **facts: Fact,
) -> dict[ClientId, Message]:
    """The same weights and facts to every client, and what is sent ``once`` to those not ``met`` before."""
    first, known = {**(once or {}), **weights}, frozenset(met)
    told = {"round": round, **facts}
    return {client: Message(weights if client in known else first, told) for client in clients}


def met(before: Iterable[ClientId], answers: Iterable[ClientId]) -> tuple[ClientId, ...]:
    """Who has answered so far, sorted: they hold what is sent once."""
    return tuple(sorted({*before, *answers}))


def train_lora(
    adapter: Adapter, start: Weights, down: Message, site: Site, purpose: str = "train"
) -> Weights:
    """Train A and B of a plain LoRA adapter on the client's rows, from ``start``."""
    learn = Learn(("A", "B"), round=int(down.facts["round"]), purpose=purpose)
    return site.train(Model(adapter, start), learn)


def examples(site: Site) -> dict[str, int]:
    """The fact that a server may weight by."""
    return {"examples": site.num_examples}
