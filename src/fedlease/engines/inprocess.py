"""All clients in this process, one after the other on one resident base model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedlease.core.adapter import Model
from fedlease.core.protocols import Algorithm, ClientId, Message, Site
from fedlease.core.rounding import WireForm, apart, unpacked
from fedlease.core.weights import Weights
from fedlease.engines.exchange import SCORE, LeftOut, Traffic, do_task
from fedlease.engines.outgoing import Outgoing
from fedlease.engines.shelf import Shelf
from fedlease.engines.uploads import Uploads


class InProcess:
    """The `Clients` of a simulation: sites called directly, private memories held in a dict.

    Attributes:
        kept: every client's private memory, what a real site would hold on its own disk.
        holds: the digests of what each client was last sent, which is not sent again; the tensors themselves
            need not be here, for whatever arrives is made from what is sent.
        traffic: what was exchanged since the last `take_traffic`.
        wire: how tensors cross between server and clients, as if they were apart.
        aside: the folder in which what many clients send and keep is put aside; None is memory.
    """

    def __init__(
        self,
        algorithm: Algorithm[Any],
        sites: Mapping[ClientId, Site],
        kept: Mapping[ClientId, Weights] | None = None,
        uploads: Uploads | None = None,
        wire: WireForm = "float32",
        holds: Mapping[ClientId, Weights] | None = None,
        aside: Path | None = None,
    ) -> None:
        self._algorithm = algorithm
        self._uploads = uploads or Uploads()
        self._sites = dict(sorted(sites.items()))
        self.kept: dict[ClientId, Weights] = dict(kept or {})
        self.holds: dict[ClientId, Weights] = dict(holds or {})
        self.traffic = Traffic()
        self.wire: WireForm = wire
        self.aside = aside

    @property
    def ids(self) -> tuple[ClientId, ...]:
        """Every client, sorted: a simulated one can always be reached."""
        return tuple(self._sites)

    def each(self, task: str, down: Mapping[ClientId, Message]) -> dict[ClientId, Message]:
        """Do the task at every client named, in the order of their names.

        A refused answer counts as none: what the client kept stays as it was, and what it was sent is not
        known to be there.
        """
        came, keeps, holds = {}, {}, {}
        sent, stays = Shelf(self.aside), Shelf(self.aside)
        outgoing = Outgoing(self.wire)
        for client in sorted(down):
            held = self.holds.get(client, {})
            parcel = outgoing.parcel(down[client], held)
            kept, site = self.kept.get(client, {}), self._sites[client]
            up, private = do_task(self._algorithm, task, parcel.arrived, kept, site, self.wire)
            keeps[client] = stays.put(private)
            holds[client] = {**held, **parcel.digests}
            self.traffic.count(task, client, parcel.sent, up, parcel.full)
            arrived = unpacked(up, self.wire)
            came[client] = Message(sent.put(arrived.weights), arrived.facts)
        answers, refused = self._uploads.check(task, down, came)
        self.kept |= {client: keeps[client] for client in answers}
        if task != SCORE:  # scoring leaves nothing behind
            self.holds |= {client: holds[client] for client in answers}
        self.traffic.left_out += [LeftOut(client, task, why) for client, why in sorted(refused.items())]
        return answers

    def deployed(self, state: Any, client: ClientId) -> Model:
        """Return the model that a client uses at a state of the method, put together from what reaches it."""
        down = Outgoing(self.wire).parcel(self._algorithm.serve(state, client), {}).arrived
        return self._algorithm.deploy(down, apart(self.kept.get(client, {}))[0])

    def take_traffic(self) -> Traffic:
        """Return what was counted so far and start again at zero."""
        taken, self.traffic = self.traffic, Traffic()
        return taken
