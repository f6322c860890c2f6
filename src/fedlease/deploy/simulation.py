"""Clients of a simulation at the nodes of a Flower Grid, for whichever process serves them."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fedlease.core.adapter import Model
from fedlease.core.protocols import Algorithm, ClientId, Message
from fedlease.core.rounding import apart
from fedlease.core.weights import Weights
from fedlease.deploy.actor import digest, memory_of
from fedlease.engines.exchange import Traffic
from fedlease.engines.flower import VERSION, Flower, Terms, word
from fedlease.engines.mailbox import Address, Mailbox
from fedlease.engines.outgoing import Outgoing
from fedlease.experiments.engine import Start
from fedlease.experiments.store import ELSEWHERE

PATIENCE = 1e8
"""Seconds that answers are awaited: a simulated client is busy or waits for its turn, and never away.

What ends a run in which nobody works is `pulse.Silence`.
"""

STRICT = Terms(PATIENCE, 1.0, 1.0, strict=True)


@dataclass(frozen=True)
class Nodes:
    """The nodes of a simulation: always there, each for one client; see `Whereabouts`.

    Attributes:
        mail: to ask them by.
        expected: the clients.
        places: where each is.
    """

    mail: Mailbox
    expected: Collection[ClientId]
    places: Mapping[ClientId, Address]

    @classmethod
    def of(cls, mail: Mailbox, clients: Collection[ClientId]) -> Nodes:
        """Give every client a node; which one makes no difference, for messages say whom they are for."""
        numbers = sorted(mail.grid.get_node_ids())
        return cls(mail, clients, {c: Address(n) for c, n in zip(sorted(clients), numbers, strict=True)})

    def where(self) -> Mapping[ClientId, Address]:
        """Return every client's node."""
        return self.places

    def settled(self) -> Mapping[ClientId, Address]:
        """Return the same."""
        return self.places


@dataclass(frozen=True)
class Simulated:
    """The `RunEngine` of clients that work in other processes, which share the run's folder with this one.

    What clients keep is on disk in ``elsewhere/SESSION/CLIENT``, in versions as at a real site. A
    checkpoint holds it as that of a run in one process does, so either goes on with the other's. What
    they are sent is on nobody's disk: they are sent all of it each time, and what sites would hold is counted
    as spared, as in one process.

    Attributes:
        algorithm: the method.
        flower: asks the clients.
        folder: of the run.
        session: which start of the run this is.
    """

    algorithm: Algorithm[Any]
    flower: Flower
    folder: Path
    session: int

    @property
    def ids(self) -> tuple[ClientId, ...]:
        """Every client, sorted."""
        return self.flower.ids

    @property
    def kept(self) -> dict[ClientId, Weights]:
        """What every client keeps, read back from its disk."""
        return {client: self._kept(client) for client in sorted(self.flower.kept)}

    @property
    def holds(self) -> dict[ClientId, Weights]:
        """See `Flower`."""
        return self.flower.holds

    def each(self, task: str, down: Mapping[ClientId, Message]) -> dict[ClientId, Message]:
        """See `Flower.each`."""
        return self.flower.each(task, down)

    def deployed(self, state: Any, client: ClientId) -> Model:
        """Return the model that a client uses at a state of the method, put together from what reaches it."""
        down = Outgoing(self.flower.wire).parcel(self.algorithm.serve(state, client), {}).arrived
        kept = self._kept(client) if client in self.flower.kept else {}
        return self.algorithm.deploy(down, apart(kept)[0])

    def take_traffic(self) -> Traffic:
        """See `Flower.take_traffic`."""
        return self.flower.take_traffic()

    def _kept(self, client: ClientId) -> Weights:
        version = word(self.flower.kept[client][VERSION].tolist())
        return memory_of(self.folder, self.session, client).load(version)


@contextmanager
def simulated(start: Start, mail: Mailbox) -> Iterator[Simulated]:
    """Give the engine of a run on a Grid; what clients keep by the checkpoint is put where they find it."""
    folder = start.store.folder.resolve()
    session, kept = len(start.found.history.sessions), dict[ClientId, Weights]()
    shutil.rmtree(folder / ELSEWHERE, ignore_errors=True)
    (folder / ELSEWHERE).mkdir()
    for client, weights in start.found.kept.items():
        version = (start.found.round, session, 0)
        memory_of(folder, session, client).save(word(version), weights)
        kept[client] = {VERSION: torch.tensor(version)}
    algorithm = start.federation.algorithm
    flower = Flower(
        algorithm,
        Nodes.of(mail, start.spec.ids),
        start.uploads,
        STRICT,
        {"folder": str(folder), "spec": digest(folder), "session": session},
        session,
        kept,
        dict(start.found.holds),
        start.spec.exchange.wire,
        start.watch,
        in_full=True,
    )
    yield Simulated(algorithm, flower, folder, session)
