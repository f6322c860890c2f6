"""Which engine carries a run's messages: how one is made once the rows and the model are there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from fedlease.core.adapter import Model
from fedlease.core.progress import Watch
from fedlease.core.protocols import ClientId
from fedlease.engines.drive import Engine
from fedlease.engines.inprocess import InProcess
from fedlease.engines.uploads import Uploads
from fedlease.experiments.checkpoint import Checkpoint
from fedlease.experiments.prepare import Federation
from fedlease.experiments.spec import Spec
from fedlease.experiments.store import Store


class RunEngine(Engine, Protocol):
    """An engine that knows at the end what its clients use."""

    def deployed(self, state: Any, client: ClientId) -> Model:
        """Return the model that a client uses at a state of the method."""


@dataclass(frozen=True)
class Start:
    """What an engine starts from.

    Attributes:
        store: the run's folder; its ``spec.json`` is written.
        spec: the run.
        federation: the method, the base and the sites.
        found: the checkpoint; its history has this start as its last session.
        watch: told of the clients' work.
    """

    store: Store
    spec: Spec
    federation: Federation
    found: Checkpoint
    watch: Watch

    @property
    def uploads(self) -> Uploads:
        """What uploads must be."""
        federation = self.federation
        return Uploads.of(federation.algorithm, federation.base.modules, self.spec.exchange.norm_factor)


class Carrier(Protocol):
    """A kind of engine. Results do not depend on it, so a run that one began another can go on with.

    Attributes:
        name: in ``spec.json`` and on the command line.
    """

    @property
    def name(self) -> str:
        """What it is called."""

    def check(self) -> None:
        """Refuse to work here, before anything is loaded.

        Raises:
            FedLeaseError: a library is not installed.
        """

    def start(self, start: Start) -> AbstractContextManager[RunEngine]:
        """Give an engine, and end all that it started when the context is left."""


@dataclass(frozen=True)
class OneProcess:
    """All clients in this process."""

    name: str = "in-process"

    def check(self) -> None:
        """Nothing is needed."""

    @contextmanager
    def start(self, start: Start) -> Iterator[RunEngine]:
        """See `Carrier`."""
        federation, found, wire = start.federation, start.found, start.spec.exchange.wire
        algorithm, sites = federation.algorithm, federation.sites
        aside = start.store.folder
        yield InProcess(algorithm, sites, found.kept, start.uploads, wire, found.holds, aside)
