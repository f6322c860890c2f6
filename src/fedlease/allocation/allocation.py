"""Which client has which expert: the decision, with its evidence (section 4.1 of FedLEASE)."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from fedlease.allocation.clustering import Matrix
from fedlease.allocation.sketches import Sketch
from fedlease.core.errors import FedLeaseError


@dataclass(frozen=True, eq=False)
class Allocation:
    """Which client has which expert, and what led to it.

    Attributes:
        clients: the clients that were compared, sorted.
        labels: the expert of each client; experts are numbered by their first client.
        num_experts: M.
        scores: k -> silhouette S(k) of the cut into k clusters.
        distances: float64 [N, N], in the order of ``clients``; None where there are so many clients
            that they are not kept (more than `MOST_EXACT`).
        linkage: the dendrogram as SciPy's merges, float64 [N-1, 4].
        distance: ``"b"`` or ``"product"``.
        centered: whether the mean update was taken out first.
        reason: the decision in one sentence.
        threshold: what S(M) has to exceed not to be weak; None where one expert was not considered.
        shared: what the updates of different clusters, at the best silhouette, have in common, as a share of
            what those of one cluster have (see `MOST_SHARED`); None where one expert was not considered.
        newcomers: the expert of each client that came after the decision; all else is without them.
        sketch: by what random sketches the clients were compared, and its error; None where nothing was
            approximated.
    """

    clients: tuple[str, ...]
    labels: tuple[int, ...]
    num_experts: int
    scores: dict[int, float]
    distances: Matrix | None
    linkage: Matrix
    distance: str
    centered: bool
    reason: str
    threshold: float | None = None
    shared: float | None = None
    newcomers: Mapping[str, int] = field(default_factory=dict)
    sketch: Sketch | None = None

    def __post_init__(self) -> None:
        clients = len(self.clients)
        if len(self.labels) != clients or set(self.labels) != set(range(self.num_experts)):
            raise ValueError(f"{len(self.labels)} labels of {self.num_experts} experts for {clients} clients")
        if self.linkage.shape != (clients - 1, 4):
            raise ValueError(f"the linkage is not that of {clients} clients")
        if self.distances is not None and self.distances.shape != (clients, clients):
            raise ValueError(f"the distances are not those of {clients} clients")
        for client, expert in self.newcomers.items():
            if client in self._labels or not 0 <= expert < self.num_experts:
                raise ValueError(f"newcomer {client!r} cannot have expert {expert} of {self.num_experts}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Allocation) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.clients, self.labels))

    @property
    def owners(self) -> dict[str, int]:
        """The expert of every client, newcomers included, sorted by client."""
        return dict(sorted({**self._labels, **self.newcomers}.items()))

    @cached_property
    def _labels(self) -> dict[str, int]:
        return dict(zip(self.clients, self.labels, strict=True))

    def __contains__(self, client: object) -> bool:
        """Tell whether a client has an expert."""
        return client in self.newcomers or client in self._labels

    def label(self, client: str) -> int:
        """Return the expert of a client; raise FedLeaseError for one that has none."""
        if client in self.newcomers:
            return self.newcomers[client]
        if client not in self._labels:
            known = len(self.clients) + len(self.newcomers)
            raise FedLeaseError(f"client {client!r} is not among the {known} allocated clients")
        return self._labels[client]

    def members(self, expert: int) -> tuple[str, ...]:
        """Return the clients of an expert, sorted; raise FedLeaseError for one that does not exist."""
        self._check_expert(expert)
        return tuple(client for client, own in self.owners.items() if own == expert)

    def joined(self, client: str, expert: int) -> Allocation:
        """Return the same decision with a newcomer; raise FedLeaseError where that cannot be."""
        if client in self:
            raise FedLeaseError(f"client {client!r} has expert {self.label(client)} already")
        self._check_expert(expert)
        after = copy(self)  # not `replace`, which would look through all clients again
        object.__setattr__(after, "newcomers", dict(sorted({**self.newcomers, client: expert}.items())))
        return after

    def _check_expert(self, expert: int) -> None:
        if not 0 <= expert < self.num_experts:
            raise FedLeaseError(f"expert {expert} of {self.num_experts} does not exist")

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values; the k of ``scores`` become strings."""
        return {
            "clients": list(self.clients),
            "labels": list(self.labels),
            "num_experts": self.num_experts,
            "scores": {str(k): score for k, score in self.scores.items()},
            "distances": None if self.distances is None else self.distances.tolist(),
            "linkage": self.linkage.tolist(),
            "distance": self.distance,
            "centered": self.centered,
            "reason": self.reason,
            "threshold": self.threshold,
            "shared": self.shared,
            **({"newcomers": dict(self.newcomers)} if self.newcomers else {}),
            **({"sketch": asdict(self.sketch)} if self.sketch else {}),
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
                distances=_matrix(values["distances"]),
                linkage=np.array(values["linkage"], dtype=np.float64),
                distance=str(values["distance"]),
                centered=bool(values["centered"]),
                reason=str(values["reason"]),
                threshold=None if values["threshold"] is None else float(values["threshold"]),
                shared=None if values["shared"] is None else float(values["shared"]),
                newcomers={str(client): int(own) for client, own in values.get("newcomers", {}).items()},
                sketch=Sketch(**values["sketch"]) if "sketch" in values else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FedLeaseError(f"not the record of an allocation: {type(error).__name__} {error}") from error


def _matrix(values: Any) -> Matrix | None:
    return None if values is None else np.array(values, dtype=np.float64)
