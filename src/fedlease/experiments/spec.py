"""What to run: a validated specification, read from TOML or built in Python."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from fedlease.algorithms import registry
from fedlease.algorithms.registry import settings_of
from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import Algorithm, Checks
from fedlease.data.splits import SPLITS
from fedlease.experiments.clients import ClientSpec, Table
from fedlease.experiments.exchange import ExchangeSpec
from fedlease.experiments.overrides import set_value
from fedlease.tasks import TASKS
from fedlease.tasks.base import Task
from fedlease.tasks.generation import Generation
from fedlease.training.loop import Training
from fedlease.training.precision import Attention, Precision, Quantization


class ModelSpec(Table):
    """The base model and how the machine computes with it.

    Attributes:
        name: a packaged name (``minilm``; ``smollm2`` for generation), a folder, or a hub id.
        max_length: most tokens of a row; longer rows are cut and counted.
        targets: modules to adapt, by the last words of their paths; None for query and value.
        dropout: set on the frozen base; None leaves the model's own.
        device, precision, attention, threads: ``auto`` is resolved once and recorded; see `choose`.
        quantization: of the base's linear modules; see `fedlease.training.quantization.load`.
        gradient_checkpointing: compute activations anew for the gradient instead of keeping them.
    """

    name: str = "minilm"
    max_length: Annotated[int, Field(ge=8)] = 128
    targets: tuple[str, ...] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = 0.0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Precision = "auto"
    attention: Attention = "auto"
    threads: Annotated[int, Field(gt=0)] | None = None
    quantization: Quantization = "none"
    gradient_checkpointing: bool = False

    @model_serializer(mode="wrap")
    def _told(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        told: dict[str, Any] = write(self)
        for key, usual in (("quantization", "none"), ("gradient_checkpointing", False)):
            if told.get(key) == usual:  # so that runs from before there were these are known again
                told.pop(key)
        return told


class DataSpec(Table):
    """Where named data sets lie, and what clients are tested on.

    Attributes:
        root: the folder that holds ``glue/`` and ``flan/``; None is FEDLEASE_DATA, else the hub.
        held_out: test on rows put aside from the training rows, and leave the test rows alone: for choosing
            hyperparameters.
    """

    root: str | None = None
    held_out: bool = False


class Spec(Table):
    """A run: model, method, training, clients, seed.

    Attributes:
        name: of the run, for folders and tables.
        seed: covers everything random.
        rounds: communication rounds, FedLEASE's initial phase included.
        score_every: clients are scored in every such round and in the last.
        method: ``name`` and its settings.
        generation: template and length of texts, where the clients' task is generation.
        exchange: when uploads are refused.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] = "run"
    seed: Annotated[int, Field(ge=0)] = 0
    rounds: Annotated[int, Field(gt=0)] = 10
    score_every: Annotated[int, Field(gt=0)] = 1
    model: ModelSpec = ModelSpec()
    method: dict[str, Any] = Field(default={"name": "fedlease"})
    training: Training = Training()
    data: DataSpec = DataSpec()
    generation: Generation = Generation()
    exchange: ExchangeSpec = ExchangeSpec()
    clients: tuple[ClientSpec, ...]

    @model_validator(mode="after")
    def _federation(self) -> Spec:
        ids = self.ids
        twice = sorted({client for client in ids if ids.count(client) > 1})
        if twice:
            raise ValueError(f"clients: two clients are called {twice[0]}")
        if len(ids) < 2:
            raise ValueError(f"clients: a federation needs at least two clients, and there is {len(ids)}")
        tasks = sorted({entry.task for entry in self.clients})
        if len(tasks) > 1:
            raise ValueError(
                f"clients: their tasks are {' and '.join(tasks)}; a federation has one task, for it has one "
                "base model and one score to compare clients by"
            )
        if "generation" in self.model_fields_set and tasks != ["generation"]:
            raise ValueError(f"generation: means nothing where the clients' task is {tasks[0]}: leave it out")
        algorithm = self.algorithm()
        if isinstance(algorithm, Checks):
            algorithm.check(self.rounds, ids)
        return self

    @model_serializer(mode="wrap")
    def _told(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        told: dict[str, Any] = write(self)
        if self.clients[0].task != "generation":
            told.pop("generation", None)
        if self.training.micro_batch_size is None and "training" in told:
            told["training"].pop("micro_batch_size", None)
        if self.exchange == ExchangeSpec():  # records are those of versions without it
            told.pop("exchange", None)
        return told

    @property
    def task(self) -> Task:
        """The task of all clients, with its settings."""
        name = self.clients[0].task
        return self.generation if name == "generation" else TASKS[name]

    @property
    def ids(self) -> tuple[str, ...]:
        """All clients by name."""
        return tuple(client for entry in self.clients for client in entry.ids)

    def settings(self) -> dict[str, Any]:
        """The method's name with every setting, defaults and presets included: what a record must tell."""
        return {"name": self.method["name"], **settings_of(self.algorithm())}

    def algorithm(self) -> Algorithm[Any]:
        """Build the method.

        Raises:
            FedLeaseError: no such method or setting, or a value that cannot be.
        """
        settings = dict(self.method)
        name = settings.pop("name", None)
        if not isinstance(name, str):
            raise FedLeaseError(f"method.name is missing; there are: {', '.join(registry.methods())}")
        return registry.build(name, **settings)


def read_spec(path: Path, overrides: Iterable[str] = ()) -> Spec:
    """Read a TOML specification, with ``key=value`` overrides such as ``method.rank=8``.

    Raises:
        FedLeaseError: the file cannot be read, is not TOML, or says something that cannot be.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise FedLeaseError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FedLeaseError(f"{path} is not valid TOML: {error}") from error
    if "name" not in content:
        content["name"] = re.sub(r"[^A-Za-z0-9_.-]", "-", path.stem)
    return make_spec(content, str(path), overrides)


def make_spec(content: Mapping[str, Any], where: str = "spec", overrides: Iterable[str] = ()) -> Spec:
    """Validate a specification given as plain values, with ``key=value`` overrides.

    Raises:
        FedLeaseError: one line that names the key and what it can be.
    """
    changed = copy.deepcopy(dict(content))
    for override in overrides:
        set_value(changed, override)
    try:
        return Spec.model_validate(changed)
    except ValidationError as error:
        raise FedLeaseError(f"{where}: {_one_line(error)}") from error
    except FedLeaseError as error:
        raise FedLeaseError(f"{where}: {error}") from error


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    path = first["loc"]
    in_split = len(path) > 3 and path[2] == "split"
    # pydantic adds which kind of value it tried; who wrote the spec knows only the keys.
    named = path[:3] + path[4:] if in_split else path[:3] if path[2:3] == ("data",) else path
    key = ".".join(map(str, named))
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{key}: there is no such key; known here: {', '.join(_known(path[:-1]))}"
    message = first["msg"].removeprefix("Value error, ")
    given = first.get("input")
    shown = f" ({given!r} given)" if isinstance(given, str | int | float) else ""
    return f"{key}: {message}{shown}" if key else message


def _known(path: tuple[int | str, ...]) -> list[str]:
    tables: dict[str, Any] = {
        "model": ModelSpec,
        "data": DataSpec,
        "clients": ClientSpec,
        "exchange": ExchangeSpec,
    }
    settings: dict[str, Any] = {"training": Training, "generation": Generation}
    if path and path[0] in settings:
        return [field.name for field in fields(settings[str(path[0])])]
    if path[2:3] == ("split",):
        return [field.name for field in fields(SPLITS[str(path[3])])]
    return list((tables[str(path[0])] if path else Spec).model_fields)
