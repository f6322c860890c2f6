"""What every engine does with a message: do a client's task, check what comes up, count bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import Algorithm, ClientId, Message, Site
from fedlease.core.weights import Weights, nbytes

SCORE = "score"
"""The task every engine answers for every method: the metrics of what `serve` and `deploy` give."""


def run_task(
    algorithm: Algorithm[Any], task: str, down: Message, kept: Weights, site: Site
) -> tuple[Message, Weights]:
    """Do one task at a client: the method's own, or `SCORE`."""
    if task == SCORE:
        return Message(facts=dict(site.score(algorithm.deploy(down, kept)))), kept
    return algorithm.tasks[task](down, kept, site)


def accept(up: Message, client: ClientId, where: str) -> Message:
    """Check a client's upload before a method sees it: the one place where uploads pass.

    Raises:
        FedLeaseError: a tensor holds NaN or infinity; the message names the client, round and tensor.
    """
    for name, tensor in up.weights.items():
        if not torch.isfinite(tensor).all():
            raise FedLeaseError(
                f"{where}: client {client} sent NaN or infinity in {name}; lower training.learning_rate "
                "or look at this client's rows"
            )
    return up


@dataclass
class Traffic:
    """Bytes that crossed the wire, by direction, client and part of the adapter.

    Models sent out only to be scored are counted under ``score``: a deployed client would already hold them.
    """

    up: dict[ClientId, dict[str, int]] = field(default_factory=dict)
    down: dict[ClientId, dict[str, int]] = field(default_factory=dict)
    score: dict[ClientId, dict[str, int]] = field(default_factory=dict)

    def count(self, task: str, client: ClientId, down: Message, up: Message) -> None:
        """Add one exchange."""
        into = self.score if task == SCORE else self.down
        _add(into.setdefault(client, {}), nbytes(down.weights))
        _add(self.up.setdefault(client, {}), nbytes(up.weights))

    def total(self) -> dict[str, dict[str, int]]:
        """Sum over clients: direction -> part -> bytes."""
        totals: dict[str, dict[str, int]] = {"up": {}, "down": {}, "score": {}}
        for direction, clients in (("up", self.up), ("down", self.down), ("score", self.score)):
            for sizes in clients.values():
                _add(totals[direction], sizes)
        return totals


def _add(into: dict[str, int], sizes: Mapping[str, int]) -> None:
    for kind, size in sizes.items():
        into[kind] = into.get(kind, 0) + size
