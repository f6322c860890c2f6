"""A finished run, opened and checked: its record, its clients' adapters, its base model, their rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fedlease.core.adapter import Model
from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import ClientId
from fedlease.experiments.places import Places
from fedlease.experiments.prepare import base_of, read_rows, rows_hash
from fedlease.experiments.reopen import check_model, check_rows, over_sites, reopen
from fedlease.experiments.results import Run
from fedlease.experiments.spec import Spec
from fedlease.experiments.store import Store
from fedlease.training.base import Base, fingerprint
from fedlease.training.resident import Resident
from fedlease.training.site import TorchSite
from fedlease.tuner.reading import read_model


@dataclass(frozen=True)
class Finished:
    """A run that is complete.

    Attributes:
        run: its folder and record.
        spec: what was asked for.
        places: where its model and data lie now.
    """

    run: Run
    spec: Spec
    places: Places

    @property
    def record(self) -> dict[str, Any]:
        """The run's record."""
        return self.run.record

    @property
    def clients(self) -> tuple[ClientId, ...]:
        """Its clients, sorted."""
        return tuple(sorted(self.record["clients"]))

    def labels(self, client: ClientId) -> tuple[str, ...]:
        """The names of a client's labels; none in generation."""
        return tuple(self.record["clients"][client]["labels"])

    def model(self, client: ClientId) -> Model:
        """Read what a client uses, and check that it is what the run wrote.

        Raises:
            FedLeaseError: there is no such client; its adapter or a head is missing or damaged.
        """
        if client not in self.record["clients"]:
            raise FedLeaseError(
                f"{self.run.folder}: there is no client {client}; there are: {', '.join(self.clients)}"
            )
        folder, known = self.run.adapter(client), self.record.get("files", {})
        of_client = f"adapters/{client}/"
        wanted = {path: sum_ for path, sum_ in known.items() if path.startswith((of_client, "heads/"))}
        found = Store(self.run.folder).sums(client) if wanted else {}
        for path, sum_ in wanted.items():
            if found.get(path) != sum_:
                what = "is not what the run wrote there" if path in found else "is missing"
                raise FedLeaseError(f"{self.run.folder / path} {what}: the run is damaged")
        model = read_model(folder)
        for name, tensor in model.weights.items():
            if not torch.isfinite(tensor).all():
                raise FedLeaseError(f"{folder}: {name} holds NaN or infinity: the run is damaged")
        return model

    @cached_property
    def base(self) -> Base:
        """The base model with the run's heads, checked to be the one the run was trained on.

        Raises:
            FedLeaseError: it is missing, another one, or cannot be loaded; a head is missing or damaged.
        """
        path, asked = self.places.model, self.spec.model
        if Path(path).is_absolute() and not Path(path).is_dir():
            raise FedLeaseError(
                f"{self.run.folder}: its base model {asked.name} is not at {path}: "
                "name its folder with --model"
            )
        counts = {len(facts["labels"]) for facts in self.record["clients"].values()}
        base = base_of(self.spec, self.places, [count for count in counts if count])
        for count, head in base.heads.items():
            self._load(head, f"{count}.safetensors")
        if base.drawn:
            self._load(base.model, "drawn.safetensors", set(base.drawn))
        check_model(self.record, path, fingerprint(base.model), self.run.folder)
        return base

    @cached_property
    def resident(self) -> Resident:
        """The base model, ready for adapters."""
        return Resident(self.base)

    def site(self, client: ClientId) -> TorchSite:
        """The client's own rows and the model to use them with.

        Raises:
            FedLeaseError: the rows are not there, or not those of the run.
        """
        held = read_rows(self.spec, self.places)[client]
        check_rows(self.record, client, rows_hash(held), self.run.folder)
        base, task, room = self.base, self.spec.task, self.spec.model.max_length
        train, test = (task.encode(rows, base.tokenizer, room) for rows in (held.train, held.test))
        labels, seed = len(held.labels), self.spec.seed
        return TorchSite(client, self.resident, task, train, test, labels, self.spec.training, seed)

    def _load(self, module: torch.nn.Module, name: str, only: set[str] | None = None) -> None:
        """Fill a module, or these parameters of it, from a file beside the adapters."""
        path = self.run.folder / "heads" / name
        try:
            tensors: dict[str, Tensor] = load_file(path)
            if only is not None and set(tensors) != only:
                raise ValueError(f"it holds {', '.join(sorted(tensors)) or 'nothing'}")
            module.load_state_dict(tensors, strict=only is None)
        except (OSError, SafetensorError, ValueError, RuntimeError) as error:
            told = " ".join(str(error).split())
            raise FedLeaseError(f"{path} is missing or damaged: {told}") from error


def open_run(folder: str | Path, model: str | Path | None = None) -> Finished:
    """Open a run to use what it learned.

    Args:
        folder: of the run.
        model: where its base model lies, if that has moved: a folder or hub id.

    Raises:
        FedLeaseError: not a run, one over Flower, one of another version, or one that is not finished.
    """
    store = Store(Path(folder))
    record = store.record()
    if over_sites(record):
        raise FedLeaseError(
            f"{folder} is a run over Flower: every site has its adapter itself, below its state/adapters"
        )
    if record["status"] != "complete":
        done, rounds = len(record["rounds"]), record["spec"]["rounds"]
        raise FedLeaseError(
            f"{folder} is not finished, it has {done} of {rounds} rounds: 'fedlease resume {folder}' goes on"
        )
    try:
        spec, places = reopen(store, anywhere=True)
    except (KeyError, TypeError) as error:
        raise FedLeaseError(f"{folder}/spec.json is damaged: it has no {error}") from error
    if model is not None:
        near = Path(model).expanduser()
        places = replace(places, model=str(near.resolve()) if near.is_dir() else str(model))
    return Finished(Run(store.folder), spec, places)
