"""How many experts there are and whose clients are whose: the decision, with its evidence (section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fedlease.allocation import clustering
from fedlease.allocation.clustering import Matrix
from fedlease.allocation.deciding import (
    MOST_SHARED,
    THRESHOLD,
    by_silhouette,
    counted,
    or_one,
    share_between,
)
from fedlease.allocation.distances import Distance, compare
from fedlease.core.errors import FedLeaseError
from fedlease.core.weights import Weights


@dataclass(frozen=True, eq=False)
class Allocation:
    """Which client has which expert, and what led to it.

    Attributes:
        clients: the clients that were compared, sorted.
        labels: the expert of each client; experts are numbered by their first client.
        num_experts: M.
        scores: k -> silhouette S(k) of the cut into k clusters.
        distances: float64 [N, N], in the order of ``clients``.
        linkage: the dendrogram as SciPy's merges, float64 [N-1, 4].
        distance: ``"b"`` or ``"product"``.
        centered: whether the mean update was taken out first.
        reason: the decision in one sentence.
        threshold: what S(M) has to exceed not to be weak; None where one expert was not considered.
        shared: what the updates of different clusters, at the best silhouette, have in common, as a share of
            what those of one cluster have (see `MOST_SHARED`); None where one expert was not considered.
        newcomers: the expert of each client that came after the decision; all else is without them.
    """

    clients: tuple[str, ...]
    labels: tuple[int, ...]
    num_experts: int
    scores: dict[int, float]
    distances: Matrix
    linkage: Matrix
    distance: str
    centered: bool
    reason: str
    threshold: float | None = None
    shared: float | None = None
    newcomers: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        clients = len(self.clients)
        if len(self.labels) != clients or set(self.labels) != set(range(self.num_experts)):
            raise ValueError(f"{len(self.labels)} labels of {self.num_experts} experts for {clients} clients")
        if self.distances.shape != (clients, clients) or self.linkage.shape != (clients - 1, 4):
            raise ValueError(f"distances or linkage are not those of {clients} clients")
        for client, expert in self.newcomers.items():
            if client in self.clients or not 0 <= expert < self.num_experts:
                raise ValueError(f"newcomer {client!r} cannot have expert {expert} of {self.num_experts}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Allocation) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.clients, self.labels))

    @property
    def owners(self) -> dict[str, int]:
        """The expert of every client, newcomers included, sorted by client."""
        return dict(sorted({**dict(zip(self.clients, self.labels, strict=True)), **self.newcomers}.items()))

    def __contains__(self, client: object) -> bool:
        """Tell whether a client has an expert."""
        return client in self.newcomers or client in self.clients

    def label(self, client: str) -> int:
        """Return the expert of a client; raise FedLeaseError for one that has none."""
        if client in self.newcomers:
            return self.newcomers[client]
        if client not in self.clients:
            known = len(self.clients) + len(self.newcomers)
            raise FedLeaseError(f"client {client!r} is not among the {known} allocated clients")
        return self.labels[self.clients.index(client)]

    def members(self, expert: int) -> tuple[str, ...]:
        """Return the clients of an expert, sorted; raise FedLeaseError for one that does not exist."""
        if not 0 <= expert < self.num_experts:
            raise FedLeaseError(f"expert {expert} of {self.num_experts} does not exist")
        return tuple(client for client, own in self.owners.items() if own == expert)

    def joined(self, client: str, expert: int) -> Allocation:
        """Return the same decision with a newcomer; raise FedLeaseError where that cannot be."""
        if client in self:
            raise FedLeaseError(f"client {client!r} has expert {self.label(client)} already")
        self.members(expert)
        return replace(self, newcomers=dict(sorted({**self.newcomers, client: expert}.items())))

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values; the k of ``scores`` become strings."""
        return {
            "clients": list(self.clients),
            "labels": list(self.labels),
            "num_experts": self.num_experts,
            "scores": {str(k): score for k, score in self.scores.items()},
            "distances": self.distances.tolist(),
            "linkage": self.linkage.tolist(),
            "distance": self.distance,
            "centered": self.centered,
            "reason": self.reason,
            "threshold": self.threshold,
            "shared": self.shared,
            **({"newcomers": dict(self.newcomers)} if self.newcomers else {}),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Allocation:
        """Return the allocation that `to_json` wrote; raise FedLeaseError for anything else."""
        try:
            clients = tuple(str(client) for client in values["clients"])
            return cls(
                clients=clients,
                labels=tuple(int(label) for label in values["labels"]),
                num_experts=int(values["num_experts"]),
                scores={int(k): float(score) for k, score in values["scores"].items()},
                distances=np.array(values["distances"], dtype=np.float64),
                linkage=np.array(values["linkage"], dtype=np.float64),
                distance=str(values["distance"]),
                centered=bool(values["centered"]),
                reason=str(values["reason"]),
                threshold=None if values["threshold"] is None else float(values["threshold"]),
                shared=None if values["shared"] is None else float(values["shared"]),
                newcomers={str(client): int(own) for client, own in values.get("newcomers", {}).items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FedLeaseError(f"not the record of an allocation: {type(error).__name__} {error}") from error


def cluster(
    weights: Mapping[str, Weights],
    *,
    max_experts: int = 8,
    num_experts: int | None = None,
    min_experts: int = 1,
    distance: Distance = "product",
    centered: bool = True,
    threshold: float = THRESHOLD,
    most_shared: float = MOST_SHARED,
) -> Allocation:
    """Allocate experts to clients from their LoRA weights (section 4.1 of FedLEASE).

    One average-linkage dendrogram is cut into k = 2 .. min(max_experts, N - 1) clusters; M is the k of the
    highest silhouette, the smaller k at ties. A silhouette cannot speak for k = 1, so all clients share one
    expert where even the highest is not above ``threshold`` and those M clusters have most in common too,
    see `MOST_SHARED`. Two clients have no silhouette: they share one expert, unless ``min_experts`` or
    ``num_experts`` says otherwise. Nor can it speak for k = N: clients of N different tasks look like clients
    of one, and share an expert.

    Args:
        weights: client -> ``{module}.A`` [r, d] and ``{module}.B`` [l, r]; the order does not matter.
        max_experts: M_max.
        num_experts: a fixed M; nothing is decided then.
        min_experts: 2 is the paper's rule, which never takes one expert.
        distance: ``"b"`` (Eq. 2) or ``"product"``, see `client_distances`.
        centered: take out the mean update of all clients first. ``distance="b", centered=False,
            min_experts=2`` is the paper to the letter.
        threshold: see `THRESHOLD`.
        most_shared: see `MOST_SHARED`.

    Raises:
        FedLeaseError: fewer than two clients, numbers of experts that cannot be, or weights that cannot be
            compared (see `client_distances`).
    """
    clients = tuple(sorted(weights))
    _check(len(clients), max_experts, num_experts, min_experts)
    distances, alike = compare({client: weights[client] for client in clients}, distance, centered)
    merges = clustering.dendrogram(distances)
    cuts = {k: clustering.cut(merges, k) for k in range(2, min(max_experts, len(clients) - 1) + 1)}
    scores = {k: clustering.silhouette(distances, labels) for k, labels in cuts.items()}
    shared = None
    if num_experts is not None:
        chosen, reason = num_experts, f"{counted(num_experts)}: the number was given"
    else:
        chosen, reason = by_silhouette(scores, min_experts)
        if min_experts == 1 and chosen > 1:
            shared = share_between(alike, cuts[chosen])
            chosen, reason = or_one(chosen, scores[chosen], shared, threshold, most_shared)
    return Allocation(
        clients=clients,
        labels=clustering.cut(merges, chosen),
        num_experts=chosen,
        scores=scores,
        distances=distances,
        linkage=merges,
        distance=distance,
        centered=centered,
        reason=reason,
        threshold=None if shared is None else threshold,
        shared=shared,
    )


def _check(clients: int, max_experts: int, num_experts: int | None, min_experts: int) -> None:
    if clients < 2:
        raise FedLeaseError(f"allocation compares clients and got {clients}: it needs at least 2")
    if not 1 <= min_experts <= max_experts:
        raise FedLeaseError(
            f"min_experts is {min_experts}: it must be between 1 and max_experts = {max_experts}"
        )
    if num_experts is not None and not 1 <= num_experts <= clients:
        raise FedLeaseError(f"num_experts is {num_experts}: it must be between 1 and the {clients} clients")
    if num_experts is None and min_experts > clients:
        raise FedLeaseError(f"min_experts is {min_experts}, but there are only {clients} clients")
