"""What an organisation says of its site: ``site.toml``."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, ValidationError

from fedlease.core.errors import FedLeaseError
from fedlease.data.federation import ClientData, federate
from fedlease.data.where import VARIABLE
from fedlease.experiments.clients import ClientSpec, Table
from fedlease.experiments.places import Places, planned
from fedlease.experiments.prepare import plans, read_rows
from fedlease.experiments.spec import Spec, read_spec
from fedlease.training.models import resolve


class ServerTable(Table):
    """The server to connect to.

    Attributes:
        address: ``host:port`` of its SuperLink.
        certificate: of the authority that the server's own is checked against; None connects without TLS.
        key: this site's private key, whose public half the server's operator has registered.
    """

    address: str
    certificate: str | None = None
    key: str | None = None


class SiteTable(Table):
    """A ``site.toml``; paths are meant from its folder.

    Attributes:
        name: the client of the specification that this site is.
        spec: the specification all have agreed on. A server that follows another one gets nothing.
        state: the folder for what the site keeps, its log, and the adapters it ends up with.
        model: the folder of the base model, where it is not what the specification says.
        threads: for computing; None is what the specification says.
        data: where the site's rows are: keys of ``[[clients]]`` in a specification, without the name. None
            takes them from the specification.
        server: to connect to.
        port: of this machine, for Flower's own processes to talk over; None finds a free one.
    """

    name: str
    spec: str
    state: str = "state"
    model: str | None = None
    threads: Annotated[int, Field(gt=0)] | None = None
    data: dict[str, Any] | None = None
    server: ServerTable | None = None
    port: int | None = None


@dataclass(frozen=True)
class SiteConfig:
    """A site as it says it is.

    Attributes:
        table: what the file says.
        folder: where the file is.
        spec: the agreed specification.
    """

    table: SiteTable
    folder: Path
    spec: Spec

    @property
    def name(self) -> str:
        """The client that the site is."""
        return self.table.name

    @property
    def state(self) -> Path:
        """The folder of all that the site writes."""
        return self.folder / self.table.state

    @property
    def threads(self) -> int:
        """Threads that train."""
        return self.table.threads or self.spec.model.threads or torch.get_num_threads()

    def places(self) -> Places:
        """Data, model and machine as they are here."""
        told = self.spec.model
        beside = (self.folder / self.table.spec).resolve().parent
        root = self.spec.data.root if self.spec.data.root is not None else os.environ.get(VARIABLE)
        model = (
            resolve(told.name, beside) if self.table.model is None else str(self.folder / self.table.model)
        )
        plan = planned(self.spec, self.threads, told.name if self.table.model is None else model, beside)
        start = beside if self.spec.data.root is not None else Path.cwd()
        return Places(beside, None if not root else (start / root).resolve(), model, plan)

    def rows(self) -> ClientData:
        """Read this site's rows.

        Raises:
            FedLeaseError: they are not there, or cannot be read.
        """
        places = self.places()
        if self.table.data is None:
            return read_rows(self.spec, places)[self.name]
        try:
            entry = ClientSpec.model_validate({**self.table.data, "name": self.name})
        except ValidationError as error:
            raise FedLeaseError(f"{self.folder / 'site.toml'}: {_first(error, 'data')}") from error
        found = federate(
            plans([entry], self.folder), places.root, self.spec.seed, held_out=self.spec.data.held_out
        )
        return found[self.name]


def read_site(path: Path) -> SiteConfig:
    """Read a ``site.toml`` and the specification that it names.

    Raises:
        FedLeaseError: a file that cannot be read, a key that is not known, a client that the specification
            does not have.
    """
    try:
        table = SiteTable.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise FedLeaseError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FedLeaseError(f"{path} is not valid TOML: {error}") from error
    except ValidationError as error:
        raise FedLeaseError(f"{path}: {_first(error)}") from error
    folder = path.resolve().parent
    spec = read_spec(folder / table.spec)
    if table.name not in spec.ids:
        raise FedLeaseError(f"{path}: name is {table.name}, which {table.spec} has no client of")
    return SiteConfig(table, folder, spec)


def _first(error: ValidationError, *table: str) -> str:
    """The first thing wrong in a table, after the key it is wrong with."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, (*table, *first['loc'])))}: {first['msg']}"
