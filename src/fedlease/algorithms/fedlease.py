"""FedLEASE: clusters of clients share LoRA experts, and every client mixes all of them.

L. Wang, J. Bian, L. Zhang, J. Xu. "Adaptive LoRA Experts Allocation and Selection for Federated
Fine-Tuning", NeurIPS 2025. Section 4 and Algorithm 1; equations are numbered as there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor

from fedlease.algorithms.alone import Each, WithLater, as_first, first_adapter
from fedlease.algorithms.newcomers import Arrivals, take_in
from fedlease.algorithms.registry import Method
from fedlease.algorithms.steps import Weighting, average, average_within, examples, met, to_all, train_lora
from fedlease.allocation import Allocation, centres, cluster
from fedlease.core.adapter import Adapter, Learn, Model, Modules, lora_init, router_init
from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import ClientId, Clients, ClientTask, Message, Site
from fedlease.core.weights import Weights, entry, select, stack, unstack


@dataclass(frozen=True)
class State:
    """The server's state.

    Attributes:
        round: communication rounds done, those of the initial phase included.
        seed: the run's seed, from which routers start.
        start: the A [r, d] and B [l, r] every client starts the initial phase from.
        allocation: which client trains which expert; None during the initial phase.
        experts: stacked, A [M, r, d], B [M, l, r]; empty during the initial phase.
        routers: one per cluster, router [M, 2M-1, d]; empty during the initial phase or when M = 1.
        met: who has answered in this phase, and so holds what is sent once.
        arrivals: what newcomers are given experts by, and who of them has none yet.
    """

    round: int
    seed: int
    start: Weights
    allocation: Allocation | None
    experts: Weights
    routers: Weights
    met: tuple[ClientId, ...] = ()
    arrivals: Arrivals = field(default_factory=Arrivals)


@dataclass(frozen=True)
class FedLease:
    """One LoRA expert per cluster of similar clients, mixed by an adaptive top-M router.

    Initial phase, alone: trains A, B; sends down the start once; sends up A, B once, at its end,
    with what they were after the first round.
    Iterative phase: trains the cluster's A, B and its router; sends up these; sends down all experts and the
    cluster's router; keeps nothing (with ``router="local"`` its router). With ``router="none"`` a client has
    its cluster's expert alone. A newcomer first does what the initial phase asks, see `take_in`.

    Attributes:
        rank, alpha, dropout: of every expert.
        warmup_rounds: rounds of the initial phase, each of the site's local epochs. Too few, and clients that
            have not learned their task yet are allocated by chance.
        max_experts: M_max, the largest number of experts considered.
        min_experts: the smallest; 2 is the paper's range, 1 lets alike clients share a single expert.
        experts: a given number of experts instead of the silhouette's choice; ``"clients"`` is one for every
            client: FedLoRA-MoE (section 3.3), FedLoRA-Individual (Table 2).
        distance: ``"b"`` compares B (Eq. 2), ``"product"`` compares B A.
        centered: take the mean update of all clients out before comparing.
        later: compare also what clients learned after their first round alone, see `alone.WithLater`.
        top_k: None is the adaptive top-M of Eq. 5; a number is the vanilla top-k of Eq. 4.
        normalize_weights: renormalise the selected slots' weights to sum 1; False is Eq. 5 as printed.
        router: averaged within the ``"cluster"`` as in the paper, ``"local"`` to each client (Fig. 6a), or
            ``"none"``: no mixture, every client has its cluster's expert alone.
        router_std: standard deviation of the routers' first weights.
        weighting: of clients in their expert's average.
    """

    rank: int = 4
    alpha: float = 16.0
    dropout: float = 0.0
    warmup_rounds: int = 3
    max_experts: int = 8
    min_experts: int = 1
    experts: int | Literal["clients"] | None = None
    distance: Literal["product", "b"] = "product"
    centered: bool = True
    later: bool = True
    top_k: int | None = None
    normalize_weights: bool = True
    router: Literal["cluster", "local", "none"] = "cluster"
    router_std: float = 0.02
    weighting: Weighting = "uniform"

    def __post_init__(self) -> None:
        self.adapter()  # refuses a rank that cannot be
        for key in ("warmup_rounds", "max_experts", "min_experts", "experts", "top_k"):
            value = getattr(self, key)
            if isinstance(value, int) and value < 1:
                raise FedLeaseError(f"{key} is {value}: it must be at least 1")
        if self.min_experts > self.max_experts:
            raise FedLeaseError(f"min_experts is {self.min_experts}, above max_experts ({self.max_experts})")
        if self.router_std < 0 or (self.router_std == 0 and self.normalize_weights):
            raise FedLeaseError(
                f"router_std is {self.router_std}: it must be above 0, else a router whose weights are "
                "normalised never trains"
            )

    def check(self, rounds: int, clients: Collection[ClientId]) -> None:
        """Refuse a federation in which the method cannot do what it says."""
        for key in ("experts", "min_experts"):
            value = getattr(self, key)
            if isinstance(value, int) and value > len(clients):
                raise FedLeaseError(f"method.{key} is {value}, more experts than the {len(clients)} clients")
        if self.warmup_rounds >= rounds:
            raise FedLeaseError(
                f"method.warmup_rounds is {self.warmup_rounds} and rounds {rounds}: "
                "no round is left to train experts"
            )

    def adapter(self, experts: int = 1, assigned: int = 0) -> Adapter:
        """The plain adapter of the initial phase, or the mixture a client of a cluster uses."""
        if experts == 1:  # nothing of a router: whatever its settings, the initial phase is the same
            return Adapter(self.rank, self.alpha, self.dropout)
        top_k = None if self.top_k is None else min(self.top_k, experts)
        return Adapter(self.rank, self.alpha, self.dropout, experts, assigned, top_k, self.normalize_weights)

    def init(self, modules: Modules, seed: int) -> State:
        """All clients start from the same seeded A, and B = 0 (Algorithm 1, line 2)."""
        return State(0, seed, lora_init(modules, self.rank, seed), None, {}, {})

    def round(self, state: State, clients: Clients) -> State:
        """One communication round of whichever phase the run is in."""
        if state.allocation is None:
            return self._initial_phase(state, clients)
        return self._iterative_phase(state, state.allocation, clients)

    def _initial_phase(self, state: State, clients: Clients) -> State:
        """Clients train alone; after the last of these rounds the server allocates experts (lines 3-13)."""
        number = state.round + 1
        last = number >= self.warmup_rounds
        down = to_all(clients.ids, {}, number, once=state.start, met=state.met, upload=last)
        answers = clients.each("warm_up", down)
        if not last:
            return replace(state, round=number, met=met(state.met, answers))
        came = Each(answers, lambda up: WithLater(up, self.distance))
        allocation = cluster(
            came,
            max_experts=self.max_experts,
            min_experts=min(self.min_experts, len(answers)),
            num_experts=self._given(len(answers)),
            distance=self.distance,
            centered=self.centered,
            seed=state.seed,
        )
        experts = stack(  # Eq. 3
            [
                select(average({c: answers[c] for c in allocation.members(j)}, self.weighting), ("A", "B"))
                for j in range(allocation.num_experts)
            ]
        )
        return replace(
            state,
            round=number,
            allocation=allocation,
            experts=experts,
            routers=self._first_routers(state, allocation.num_experts),
            met=(),
            arrivals=Arrivals(centres(came, allocation)),
        )

    def _given(self, clients: int) -> int | None:
        """The number of experts that was given, no more than the clients that answered."""
        if self.experts is None:
            return None
        return clients if self.experts == "clients" else min(self.experts, clients)

    def _iterative_phase(self, state: State, allocation: Allocation, clients: Clients) -> State:
        """Clients train their expert and router; each is averaged within its cluster (lines 15-29)."""
        number = state.round + 1
        known = frozenset(state.met if self.router == "local" else ())  # they keep their routers
        there = clients.ids
        down = {
            client: self._mixture(state, client, number, with_router=client not in known)
            for client in there
            if client in allocation
        }
        answers = clients.each("train", down)
        clusters = [allocation.members(j) for j in range(allocation.num_experts)]
        trained = average_within(clusters, answers, {**state.experts, **state.routers}, self.weighting)
        late = [client for client in there if client not in allocation]
        allocation, arrivals = take_in(
            allocation, state.arrivals, late, clients, state.start, round=number, alone=self.warmup_rounds
        )
        return replace(
            state,
            round=number,
            allocation=allocation,
            experts=select(trained, ("A", "B")),
            routers=select(trained, ("router",)),
            met=met(state.met, answers),
            arrivals=arrivals,
        )

    def warm_up(self, down: Message, kept: Weights, site: Site) -> tuple[Message, Weights]:
        """Client, initial phase: train alone; keep the adapter, or send it up when the phase ends."""
        start = select(kept or down.weights, ("A", "B"))
        own = train_lora(self.adapter(), start, down, site, purpose="warm-up")
        first = {}
        if self.later and self.warmup_rounds > 1:
            first = first_adapter(kept) or as_first(own)
        if down.facts["upload"]:
            return Message({**own, **first}, examples(site)), {}
        return Message(), {**own, **first}

    def train(self, down: Message, kept: Weights, site: Site) -> tuple[Message, Weights]:
        """Client, iterative phase: train the assigned expert and the router; the others stay frozen."""
        model = self.deploy(down, kept)
        trained = site.train(model, Learn(("A", "B", "router"), round=int(down.facts["round"])))
        router = select(trained, ("router",))
        own = own_expert(trained, model.adapter)
        if self.router == "local":
            return Message(own, examples(site)), router
        return Message({**own, **router}, examples(site)), {}

    def serve(self, state: State, client: ClientId) -> Message:
        """All experts and the cluster's router; the start for a client without an expert."""
        if state.allocation is None or client not in state.allocation:
            return Message(state.start, {"experts": 1, "assigned": 0})
        return self._mixture(state, client, state.round)

    def deploy(self, down: Message, kept: Weights) -> Model:
        """The mixture with the assigned expert first; in the initial phase the client's own adapter."""
        experts = int(down.facts.get("experts", 1))
        own = select(kept, ("A", "B", "router"))
        return Model(self.adapter(experts, int(down.facts.get("assigned", 0))), {**down.weights, **own})

    def _mixture(self, state: State, client: ClientId, number: int, *, with_router: bool = True) -> Message:
        """What a client of a cluster is sent: all M experts and its cluster's router, or its expert alone."""
        assert state.allocation is not None
        assigned, experts = state.allocation.label(client), state.allocation.num_experts
        if self.router == "none":
            return Message(entry(state.experts, assigned), {"round": number, "experts": 1, "assigned": 0})
        weights = state.experts if experts > 1 else entry(state.experts, 0)
        facts = {"round": number, "experts": experts, "assigned": assigned}
        router = entry(state.routers, assigned) if with_router else {}
        return Message({**weights, **router}, facts)

    def _first_routers(self, state: State, experts: int) -> dict[str, Tensor]:
        """One router per cluster, [M, slots, d] per module; none when one expert serves all."""
        slots = 0 if self.router == "none" else self.adapter(experts).slots
        inputs = {name.removesuffix(".A"): a.shape[1] for name, a in select(state.start, ("A",)).items()}
        first = [router_init(inputs, slots, self.router_std, state.seed, str(j)) for j in range(experts)]
        return stack(first) if slots else {}

    @property
    def tasks(self) -> Mapping[str, ClientTask]:
        """What clients are asked to do."""
        return {"warm_up": self.warm_up, "train": self.train}

    def main_phase(self, modules: Modules, experts: int) -> tuple[tuple[Model, Learn], ...]:
        """All experts and a router; the assigned expert and the router train."""
        experts = 1 if self.router == "none" else experts
        own, adapter = lora_init(modules, self.rank, 0), self.adapter(experts)
        inputs = {name: inputs for name, (_, inputs) in modules.items()}
        router = router_init(inputs, adapter.slots, 0.0, 0) if adapter.slots else {}
        weights = {**stack([own] * experts), **router} if experts > 1 else own
        return ((Model(adapter, weights), Learn(("A", "B", "router"))),)

    def facts(self, state: State) -> Mapping[str, Any]:
        """The allocation with its evidence."""
        return {} if state.allocation is None else {"allocation": state.allocation.to_json()}


def own_expert(weights: Weights, adapter: Adapter) -> dict[str, Tensor]:
    """The assigned expert's A [r, d] and B [l, r] out of a model's weights."""
    experts = select(weights, ("A", "B"))
    return unstack(experts, adapter.assigned) if adapter.experts > 1 else experts


METHODS = (
    Method("fedlease", FedLease, "Wang et al., NeurIPS 2025; the project's defaults"),
    Method(
        "fedlease_paper",
        FedLease,
        "Wang et al., NeurIPS 2025; the published settings",
        {
            "distance": "b",
            "centered": False,
            "later": False,
            "min_experts": 2,
            "normalize_weights": False,
        },
    ),
)
