"""All clients in this process, one after the other on one resident base model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedlease.core.protocols import Algorithm, ClientId, Message, Site
from fedlease.core.weights import Weights
from fedlease.engines.exchange import Traffic, accept, run_task


class InProcess:
    """The `Clients` of a simulation: sites called directly, private memories held in a dict.

    Attributes:
        kept: every client's private memory, what a real site would hold on its own disk.
        traffic: the bytes exchanged since the last `take_traffic`.
    """

    def __init__(
        self,
        algorithm: Algorithm[Any],
        sites: Mapping[ClientId, Site],
        kept: Mapping[ClientId, Weights] | None = None,
    ) -> None:
        self._algorithm = algorithm
        self._sites = dict(sorted(sites.items()))
        self.kept: dict[ClientId, Weights] = dict(kept or {})
        self.traffic = Traffic()

    @property
    def ids(self) -> tuple[ClientId, ...]:
        """Every client, sorted: a simulated one can always be reached."""
        return tuple(self._sites)

    def each(self, task: str, down: Mapping[ClientId, Message]) -> dict[ClientId, Message]:
        """Do the task at every client named, in the order of their names."""
        answers = {}
        for client in sorted(down):
            kept = self.kept.get(client, {})
            up, keeps = run_task(self._algorithm, task, down[client], kept, self._sites[client])
            answers[client] = accept(up, client, f"task {task}, round {down[client].facts.get('round', '?')}")
            self.kept[client] = keeps
            self.traffic.count(task, client, down[client], up)
        return answers

    def take_traffic(self) -> Traffic:
        """Return the bytes counted so far and start again at zero."""
        taken, self.traffic = self.traffic, Traffic()
        return taken
