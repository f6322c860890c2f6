"""HydraLoRA-style: one A for all clients, one B per cluster, mixed by a dense softmax router.

C. Tian, Z. Shi, Z. Guo, L. Li, C. Xu. "HydraLoRA: An Asymmetric LoRA Architecture for Efficient Fine-Tuning",
NeurIPS 2024, has one A and several B under a router without top-k, on one machine. This is its federation:
the B belong to clusters of clients, found as FedLEASE finds them (Wang et al., NeurIPS 2025, section 4.1).
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from fedlease.algorithms.alone import Each
from fedlease.algorithms.registry import Method
from fedlease.algorithms.steps import PlainLora, Weighting, average, average_within, examples, met, to_all
from fedlease.allocation import Allocation, cluster
from fedlease.core.adapter import Adapter, Learn, Model, Modules, lora_init, router_init
from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import ClientId, Clients, ClientTask, Message, Site
from fedlease.core.weights import Weights, entry, select, stack, unstack


@dataclass(frozen=True)
class State:
    """The server's state.

    Attributes:
        round: rounds done, those of the first phase included.
        seed: of the run, from which routers start.
        shared: the one A [r, d].
        start: the first B = 0 [l, r].
        allocation: which client trains which B; None in the first phase.
        heads: stacked B [M, l, r] and router [M, M, d]; empty in the first phase.
        met: who has a B of its own, in the first phase.
    """

    round: int
    seed: int
    shared: Weights
    start: Weights
    allocation: Allocation | None
    heads: Weights
    met: tuple[ClientId, ...] = ()


@dataclass(frozen=True)
class HydraLoRA(PlainLora):
    """One A that everyone trains, a B per cluster, and a router that mixes all B.

    First phase: trains A, B; sends up A, at its end B as well; sends down A, the first B once; keeps B. Then:
    trains A, the cluster's B and router; sends up these; sends down A, all B and the cluster's router; keeps
    nothing.

    Attributes:
        warmup_rounds: rounds in which every client has a B of its own.
        max_experts, experts: the largest number of B considered, or a given number.
        router_std: standard deviation of the routers' first weights.
    """

    rank: int = 4
    warmup_rounds: int = 2
    max_experts: int = 8
    experts: int | None = None
    router_std: float = 0.02
    weighting: Weighting = "uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("warmup_rounds", "max_experts", "experts"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise FedLeaseError(f"{key} is {value}: it must be at least 1")
        if not self.router_std >= 0:
            raise FedLeaseError(f"router_std is {self.router_std}: it must not be negative")

    def check(self, rounds: int, clients: Collection[ClientId]) -> None:
        """Refuse a federation in which the method cannot do what it says."""
        if self.experts is not None and self.experts > len(clients):
            raise FedLeaseError(f"method.experts is {self.experts}, more than the {len(clients)} clients")
        if self.warmup_rounds >= rounds:
            raise FedLeaseError(
                f"method.warmup_rounds is {self.warmup_rounds} and rounds {rounds}: "
                "no round is left for the mixture"
            )

    def mixture(self, experts: int, assigned: int) -> Adapter:
        """One A, M B, and a softmax over all M of them."""
        if experts == 1:
            return self.adapter
        return Adapter(self.rank, self.alpha, self.dropout, experts, assigned, top_k=experts, shared_a=True)

    def init(self, modules: Modules, seed: int) -> State:
        """Start from a seeded A and B = 0."""
        first = lora_init(modules, self.rank, seed)
        return State(0, seed, select(first, ("A",)), select(first, ("B",)), None, {})

    def round(self, state: State, clients: Clients) -> State:
        """One communication round of whichever phase the run is in."""
        if state.allocation is None:
            return self._first_phase(state, clients)
        return self._mixture_phase(state, state.allocation, clients)

    def _first_phase(self, state: State, clients: Clients) -> State:
        """A is averaged and every client has its own B; after the last of these rounds B are clustered."""
        number = state.round + 1
        last = number >= self.warmup_rounds
        down = to_all(clients.ids, state.shared, number, once=state.start, met=state.met, upload=last)
        answers = clients.each("train_apart", down)
        trained = average(answers, self.weighting)
        shared = select(trained, ("A",))
        if not last:
            return replace(state, round=number, shared=shared, met=met(state.met, answers))
        allocation = cluster(
            Each(answers, lambda up: ChainMap(shared, up)),  # type: ignore[arg-type]  # it is only read
            max_experts=self.max_experts,
            num_experts=None if self.experts is None else min(self.experts, len(answers)),
            seed=state.seed,
        )
        count = allocation.num_experts
        heads = stack([state.start] * count)
        clusters = [allocation.members(j) for j in range(count)]
        heads = average_within(clusters, answers, heads, self.weighting) | self._first_routers(state, count)
        return replace(state, round=number, shared=shared, allocation=allocation, heads=heads, met=())

    def _mixture_phase(self, state: State, allocation: Allocation, clients: Clients) -> State:
        """A is averaged over all, B and router within the cluster."""
        number = state.round + 1
        there = [client for client in clients.ids if client in allocation.clients]
        answers = clients.each("train", {client: self._mixture(state, client, number) for client in there})
        shared = select(average(answers, self.weighting), ("A",))
        clusters = [allocation.members(j) for j in range(allocation.num_experts)]
        heads = average_within(clusters, answers, state.heads, self.weighting)
        return replace(state, round=number, shared=shared, heads=heads)

    def train_apart(self, down: Message, kept: Weights, site: Site) -> tuple[Message, Weights]:
        """Client, first phase: train A and its own B; send up A, and B when the phase ends."""
        learn = Learn(("A", "B"), round=int(down.facts["round"]), purpose="warm-up")
        trained = site.train(Model(self.adapter, {**down.weights, **kept}), learn)
        if down.facts["upload"]:
            return Message(trained, examples(site)), {}
        return Message(select(trained, ("A",)), examples(site)), select(trained, ("B",))

    def train(self, down: Message, kept: Weights, site: Site) -> tuple[Message, Weights]:
        """Client, mixture: train A, the cluster's B and router; the other B stay frozen."""
        model = self.deploy(down, kept)
        trained = site.train(model, Learn(("A", "B", "router"), round=int(down.facts["round"])))
        own = select(trained, ("B",))
        if model.adapter.experts > 1:
            own = unstack(own, model.adapter.assigned)
        return Message({**select(trained, ("A", "router")), **own}, examples(site)), {}

    def serve(self, state: State, client: ClientId) -> Message:
        """What the mixture needs; in the first phase, and to a client without a cluster, A and B = 0."""
        if state.allocation is None or client not in state.allocation.clients:
            facts = {"experts": 1, "assigned": 0, "own": state.allocation is None}
            return Message({**state.shared, **state.start}, facts)
        return self._mixture(state, client, state.round)

    def deploy(self, down: Message, kept: Weights) -> Model:
        """The mixture; in the first phase the shared A with the client's own B, which fits no later A."""
        experts, assigned = int(down.facts.get("experts", 1)), int(down.facts.get("assigned", 0))
        own = kept if down.facts.get("own") else {}
        return Model(self.mixture(experts, assigned), {**down.weights, **own})

    def _mixture(self, state: State, client: ClientId, number: int) -> Message:
        """A, every B and the cluster's router."""
        assert state.allocation is not None
        assigned, experts = state.allocation.label(client), state.allocation.num_experts
        own = entry(state.heads, assigned)
        every = select(state.heads, ("B",)) if experts > 1 else {}
        facts = {"round": number, "experts": experts, "assigned": assigned}
        return Message({**state.shared, **own, **every}, facts)

    def _first_routers(self, state: State, experts: int) -> dict[str, Tensor]:
        """One router per cluster, [M, M, d] per module; none when one B serves all."""
        inputs = {name.removesuffix(".A"): a.shape[1] for name, a in state.shared.items()}
        if experts == 1:
            return {}
        first = [router_init(inputs, experts, self.router_std, state.seed, str(j)) for j in range(experts)]
        return stack(first)

    @property
    def tasks(self) -> Mapping[str, ClientTask]:
        """What clients are asked to do."""
        return {"train_apart": self.train_apart, "train": self.train}

    def main_phase(self, modules: Modules, experts: int) -> tuple[tuple[Model, Learn], ...]:
        """A, all B and a router; A, the cluster's B and the router train."""
        own, adapter = lora_init(modules, self.rank, 0), self.mixture(experts, 0)
        if experts == 1:
            return ((Model(adapter, own), Learn(("A", "B"))),)
        inputs = {name: inputs for name, (_, inputs) in modules.items()}
        heads = {**stack([select(own, ("B",))] * experts), **router_init(inputs, experts, 0.0, 0)}
        return ((Model(adapter, {**select(own, ("A",)), **heads}), Learn(("A", "B", "router"))),)

    def facts(self, state: State) -> Mapping[str, Any]:
        """The allocation with its evidence."""
        return {} if state.allocation is None else {"allocation": state.allocation.to_json()}


METHODS = (Method("hydralora", HydraLoRA, "Tian et al., NeurIPS 2024, with a B per cluster"),)
