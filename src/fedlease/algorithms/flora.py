"""FLoRA: clients' updates are stacked, not averaged, and folded into the base; ranks may differ.

Z. Wang, Z. Shen, Y. He, G. Sun, H. Wang, L. Lyu, A. Li. "FLoRA: Federated Fine-Tuning Large Language Models
with Heterogeneous Low-Rank Adaptations", NeurIPS 2024. ``[B_1 .. B_n] [p_1 A_1; ..; p_n A_n]`` is the exact
mean of the updates, whatever the ranks; every round starts from a fresh adapter.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from fedlease.algorithms.registry import Method
from fedlease.algorithms.steps import PlainLora, Weighting, examples, shares
from fedlease.core.adapter import Adapter, Learn, Model, Modules, lora_init
from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import ClientId, Clients, ClientTask, Message, Site
from fedlease.core.seeds import derive
from fedlease.core.weights import Weights, module, part, select

FIXED = ("fixed_A", "fixed_B")
"""The parts in which stacks are sent and kept."""


@dataclass(frozen=True)
class State:
    """The server's state.

    Attributes:
        round: rounds done.
        seed: of the run, from which every round's fresh A is drawn.
        modules: (l, d) of every adapted module.
        folded: the sum of all rounds' stacks as fixed_A [R, d] and fixed_B [l, R]; empty before the first.
        latest: the last round's stack alone, in the same form.
        current: who answered in the last round, and so needs ``latest`` alone.
    """

    round: int
    seed: int
    modules: Mapping[str, tuple[int, int]]
    folded: Weights
    latest: Weights
    current: tuple[ClientId, ...] = ()


@dataclass(frozen=True)
class FLoRA(PlainLora):
    """Clients train fresh adapters of their own rank; the stack of them all is folded into every base.

    Trains A, B; sends up A, B; sends down the first A, B, then the stack of the last round's A, B (of all
    rounds' to a client that missed one); keeps the stacks folded so far.

    Attributes:
        ranks: client -> rank, where it is not ``rank``.
    """

    ranks: Mapping[ClientId, int] = field(default_factory=dict)
    weighting: Weighting = "uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        for client, rank in self.ranks.items():
            if rank < 1:
                raise FedLeaseError(f"ranks: client {client} has rank {rank}; it must be at least 1")

    def check(self, rounds: int, clients: Collection[ClientId]) -> None:  # noqa: ARG002
        """Refuse ranks of clients that are not there."""
        for client in self.ranks:
            if client not in clients:
                raise FedLeaseError(f"method.ranks: there is no client {client}")

    def init(self, modules: Modules, seed: int) -> State:
        """Nothing is folded yet."""
        return State(0, seed, dict(modules), {}, {})

    def round(self, state: State, clients: Clients) -> State:
        """All clients train a fresh adapter on the folded base; the stack of those that come is folded in."""
        number = state.round + 1
        draw = derive(state.seed, "flora", number)
        down = {}
        for client in clients.ids:
            facts = {
                "round": number,
                "rank": self._rank(client),
                "draw": draw,
                "add": client in state.current,
            }
            stacks = state.latest if client in state.current else state.folded
            down[client] = Message(stacks or self._start(state, client), facts)
        answers = clients.each("train", down)
        latest = self._stack(answers)
        return State(number, state.seed, state.modules, fold(state.folded, latest), latest, tuple(answers))

    def train(self, down: Message, kept: Weights, site: Site) -> tuple[Message, Weights]:
        """Client: fold what came down into the base, train a fresh adapter on it, send that up."""
        came = select(down.weights, FIXED)
        folded = fold(kept, came) if down.facts["add"] else came
        rank = int(down.facts["rank"])
        fresh = lora_init(_shapes(folded), rank, int(down.facts["draw"])) if folded else down.weights
        adapter = Adapter(rank, self.alpha, self.dropout, fixed=_rank_of(folded) if folded else 0)
        learn = Learn(("A", "B"), round=int(down.facts["round"]))
        trained = site.train(Model(adapter, {**fresh, **folded}), learn)
        return Message(select(trained, ("A", "B")), examples(site)), folded

    def _stack(self, answers: Mapping[ClientId, Message]) -> dict[str, Tensor]:
        """The clients' adapters side by side, each B times its share and alpha / rank."""
        if not answers:
            raise FedLeaseError("flora: nothing to stack: no client answered")
        parts: dict[str, list[Tensor]] = {}
        for answer, share in zip(answers.values(), shares(answers, self.weighting), strict=True):
            for name, a in select(answer.weights, ("A",)).items():
                b = answer.weights[f"{module(name)}.B"].double() * (share * self.alpha / len(a))
                parts.setdefault(f"{module(name)}.fixed_A", []).append(a)
                parts.setdefault(f"{module(name)}.fixed_B", []).append(b.float())
        return {name: torch.cat(both, dim=int(part(name) == "fixed_B")) for name, both in parts.items()}

    def serve(self, state: State, client: ClientId) -> Message:
        """All that is folded, and a first adapter that adds nothing."""
        return Message({**self._start(state, client), **state.folded})

    def deploy(self, down: Message, kept: Weights) -> Model:  # noqa: ARG002
        """The folded stacks beside the adapter of a round that has not begun: its B is 0."""
        folded = select(down.weights, FIXED)
        rank = len(next(iter(select(down.weights, ("A",)).values())))
        adapter = Adapter(rank, self.alpha, self.dropout, fixed=_rank_of(folded) if folded else 0)
        return Model(adapter, down.weights)

    def _rank(self, client: ClientId) -> int:
        return self.ranks.get(client, self.rank)

    def _start(self, state: State, client: ClientId) -> Weights:
        """The first A and B = 0; the A of a smaller rank is the first rows of a larger one's."""
        return lora_init(state.modules, self._rank(client), state.seed)

    @property
    def tasks(self) -> Mapping[str, ClientTask]:
        """What clients are asked to do."""
        return {"train": self.train}


def fold(folded: Weights, more: Weights) -> dict[str, Tensor]:
    """Add a stack to those folded so far: ``fixed_B fixed_A`` becomes the sum of both products.

    Ranks add up. Where that would exceed what any module can have, the products themselves [l, d] are kept,
    each with an identity, so nothing is lost and memory has a bound. All modules have one rank.
    """
    most = max(min(shape) for shape in _shapes(more).values())
    together: dict[str, Tensor] = {}
    for name in select(more, ("fixed_A",)):
        up = f"{module(name)}.fixed_B"
        a, b = more[name], more[up]
        if folded:
            a, b = torch.cat([folded[name], a]), torch.cat([folded[up], b], dim=1)
        if len(a) > most:
            a, b = _as_product(a, b, most)
        together |= {name: a, up: b}
    return together


def _as_product(a: Tensor, b: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The same B A with one factor an identity, filled up with zeros to that rank."""
    product = (b.double() @ a.double()).float()
    outputs, inputs = product.shape
    if inputs <= outputs:
        return torch.eye(rank, inputs), functional.pad(product, (0, rank - inputs))
    return functional.pad(product, (0, 0, 0, rank - outputs)), torch.eye(outputs, rank)


def _shapes(folded: Weights) -> dict[str, tuple[int, int]]:
    """The (l, d) of every module."""
    return {
        module(name): (len(folded[f"{module(name)}.fixed_B"]), a.shape[1])
        for name, a in select(folded, ("fixed_A",)).items()
    }


def _rank_of(folded: Weights) -> int:
    return len(next(iter(select(folded, ("fixed_A",)).values())))


METHODS = (Method("flora", FLoRA, "Wang et al., NeurIPS 2024"),)
