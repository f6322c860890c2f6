"""All clients in this process, one after the other on one resident base model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedlease.core.adapter import Model
from fedlease.core.protocols import Algorithm, ClientId, Message, Site
from fedlease.core.rounding import WireForm, packed, unpacked
from fedlease.core.weights import Weights
from fedlease.engines.exchange import LeftOut, Traffic, run_task
from fedlease.engines.uploads import Uploads


class InProcess:
    """The `Clients` of a simulation: sites called directly, private memories held in a dict.

    Attributes:
        kept: every client's private memory, what a real site would hold on its own disk.
        traffic: what was exchanged since the last `take_traffic`.
        wire: how tensors cross between server and clients, as if they were apart.
    """

    def __init__(
        self,
        algorithm: Algorithm[Any],
        sites: Mapping[ClientId, Site],
        kept: Mapping[ClientId, Weights] | None = None,
        uploads: Uploads | None = None,
        wire: WireForm = "float32",
    ) -> None:
        self._algorithm = algorithm
        self._uploads = uploads or Uploads()
        self._sites = dict(sorted(sites.items()))
        self.kept: dict[ClientId, Weights] = dict(kept or {})
        self.traffic = Traffic()
        self.wire: WireForm = wire

    @property
    def ids(self) -> tuple[ClientId, ...]:
        """Every client, sorted: a simulated one can always be reached."""
        return tuple(self._sites)

    def each(self, task: str, down: Mapping[ClientId, Message]) -> dict[ClientId, Message]:
        """Do the task at every client named, in the order of their names.

        A refused answer counts as none: what the client kept stays as it was.
        """
        came, keeps = {}, {}
        for client in sorted(down):
            kept, question = self.kept.get(client, {}), packed(down[client], self.wire)
            up, keeps[client] = run_task(
                self._algorithm, task, unpacked(question, self.wire), kept, self._sites[client]
            )
            answer = packed(up, self.wire)
            self.traffic.count(task, client, question, answer)
            came[client] = unpacked(answer, self.wire)
        answers, refused = self._uploads.check(task, down, came)
        self.kept |= {client: keeps[client] for client in answers}
        self.traffic.left_out += [LeftOut(client, task, why) for client, why in sorted(refused.items())]
        return answers

    def deployed(self, state: Any, client: ClientId) -> Model:
        """Return the model that a client uses at a state of the method, put together from what reaches it."""
        down = packed(self._algorithm.serve(state, client), self.wire)
        return self._algorithm.deploy(unpacked(down, self.wire), self.kept.get(client, {}))

    def take_traffic(self) -> Traffic:
        """Return what was counted so far and start again at zero."""
        taken, self.traffic = self.traffic, Traffic()
        return taken
