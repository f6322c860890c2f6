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
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from fedlease.algorithms import registry
from fedlease.algorithms.registry import settings_of
from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import Algorithm, Checks
from fedlease.data.splits import SPLITS, Quantity, Split
from fedlease.experiments.overrides import set_value
from fedlease.tasks import TASKS
from fedlease.training.loop import Training
from fedlease.training.precision import Attention, Precision

Rows = Annotated[int, Field(gt=0)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSpec(_Table):
    """The base model and how the machine computes with it.

    Attributes:
        name: a packaged name (``minilm``), a folder, or a hub id.
        max_length: most tokens of a row; longer rows are cut and counted.
        targets: modules to adapt, by the last words of their paths; None for query and value.
        dropout: set on the frozen base; None leaves the model's own.
        device, precision, attention, threads: ``auto`` is resolved once and recorded; see `choose`.
    """

    name: str = "minilm"
    max_length: Annotated[int, Field(ge=8)] = 128
    targets: tuple[str, ...] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = 0.0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Precision = "auto"
    attention: Attention = "auto"
    threads: Annotated[int, Field(gt=0)] | None = None


class DataSpec(_Table):
    """Where named data sets lie, and what clients are tested on.

    Attributes:
        root: the folder that holds ``glue/``; None is FEDLEASE_DATA, else the hub.
        held_out: test on rows put aside from the training rows, and leave the test rows alone: for choosing
            hyperparameters.
    """

    root: str | None = None
    held_out: bool = False


ANYWHERE = {"name", "count", "task", "train_rows", "test_rows", "split"}
COLUMNS = {"text", "label", "labels"}
ONLY_WITH: Mapping[str, set[str]] = {
    "data": set(),
    "train": {"test"} | COLUMNS,
    "hub": {"hub_config", "train_split", "test_split"} | COLUMNS,
}
"""Which keys of a client go with each way to say where its rows are."""


class ClientSpec(_Table):
    """One client, or ``count`` of them that share a data set and are called ``name-0``, ``name-1``, ...

    Attributes:
        name: letters, digits, ``-`` and ``_``.
        count: None for a single client called ``name``.
        data: a named data set (``sst2``, ``qnli``, ...), or several whose rows every client mixes in equal
            parts; or else files or a hub data set of your own:
        train, test: JSONL, CSV or Parquet files; without ``test`` its rows are taken out of ``train``.
        hub, hub_config, train_split, test_split: a hub data set.
        text: the one or two columns with text.
        label: the column with the label: names, or numbers from 0.
        labels: the names in order of their numbers; empty finds them in the data, sorted.
        train_rows, test_rows: rows for each client; None is an equal share of all.
        split: how the training rows of ``count`` clients differ in labels or number, see `fedlease.data.splits`.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    count: Annotated[int, Field(gt=0)] | None = None
    data: str | tuple[str, ...] | None = None
    train: str | None = None
    test: str | None = None
    hub: str | None = None
    hub_config: str | None = None
    train_split: str = "train"
    test_split: str | None = None
    text: tuple[str, ...] = ()
    label: str = "label"
    labels: tuple[str, ...] = ()
    task: str = "classification"
    train_rows: Rows | None = None
    test_rows: Rows | None = None
    split: Annotated[Split, Field(discriminator="by")] | None = None

    @field_validator("task")
    @classmethod
    def _known_task(cls, task: str) -> str:
        if task not in TASKS:
            raise ValueError(f"there is no such task; there are: {', '.join(TASKS)}")
        return task

    @field_validator("split", mode="wrap")
    @classmethod
    def _split_can_be(cls, split: object, read: ValidatorFunctionWrapHandler) -> Any:
        kinds = ", ".join(SPLITS)
        if not isinstance(split, Mapping | None | Split):
            raise ValueError(f"it must be a table with the key by, one of: {kinds}")
        if isinstance(split, Mapping) and split.get("by") not in list(SPLITS):
            raise ValueError(f"by is {split.get('by')!r}; it must be one of: {kinds}")
        try:
            return read(split)
        except FedLeaseError as error:  # told by the key of the client it is about
            raise ValueError(str(error)) from error

    @model_validator(mode="after")
    def _split_fits(self) -> ClientSpec:
        if self.split is None:
            return self
        if self.count is None:
            raise ValueError("split divides rows among the clients of a group: it needs count")
        try:
            self.split.check(self.count)
        except FedLeaseError as error:
            raise ValueError(f"split: {error}") from error
        if isinstance(self.split, Quantity) and self.split.rows and self.train_rows is not None:
            raise ValueError("train_rows means nothing beside split.rows: leave it out")
        return self

    @model_validator(mode="after")
    def _one_place(self) -> ClientSpec:
        places = [key for key in ("data", "train", "hub") if getattr(self, key) is not None]
        if len(places) != 1:
            given = " and ".join(places) or "none"
            raise ValueError(f"say where the rows are by one of data, train or hub ({given} given)")
        place = places[0]
        fields = type(self).model_fields
        said = {key for key in self.model_fields_set if getattr(self, key) != fields[key].default}
        stray = sorted(said - ANYWHERE - {place} - ONLY_WITH[place])
        if stray:
            raise ValueError(f"{stray[0]} means nothing beside {place}: leave it out")
        if place != "data" and len(self.text) not in (1, 2):
            raise ValueError("text must name one or two columns")
        if place == "data" and (not self.names or len(set(self.names)) < len(self.names)):
            raise ValueError(f"data is {list(self.names)}: name at least one data set, each once")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The named data sets; none for files and a hub data set."""
        return (self.data,) if isinstance(self.data, str) else self.data or ()

    @property
    def ids(self) -> tuple[str, ...]:
        """The names of the clients this entry stands for."""
        return (self.name,) if self.count is None else tuple(f"{self.name}-{i}" for i in range(self.count))


class Spec(_Table):
    """A run: model, method, training, clients, seed.

    Attributes:
        name: of the run, for folders and tables.
        seed: covers everything random.
        rounds: communication rounds, FedLEASE's initial phase included.
        score_every: clients are scored in every such round and in the last.
        method: ``name`` and its settings.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] = "run"
    seed: Annotated[int, Field(ge=0)] = 0
    rounds: Annotated[int, Field(gt=0)] = 10
    score_every: Annotated[int, Field(gt=0)] = 1
    model: ModelSpec = ModelSpec()
    method: dict[str, Any] = {"name": "fedlease"}
    training: Training = Training()
    data: DataSpec = DataSpec()
    clients: tuple[ClientSpec, ...]

    @model_validator(mode="after")
    def _federation(self) -> Spec:
        ids = self.ids
        twice = sorted({client for client in ids if ids.count(client) > 1})
        if twice:
            raise ValueError(f"clients: two clients are called {twice[0]}")
        if len(ids) < 2:
            raise ValueError(f"clients: a federation needs at least two clients, and there is {len(ids)}")
        algorithm = self.algorithm()
        if isinstance(algorithm, Checks):
            algorithm.check(self.rounds, len(ids))
        return self

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
        content = tomllib.loads(path.read_text(encoding="utf-8"))
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
    tables: dict[str, Any] = {"model": ModelSpec, "data": DataSpec, "clients": ClientSpec}
    if path and path[0] == "training":
        return [field.name for field in fields(Training)]
    if path[2:3] == ("split",):
        return [field.name for field in fields(SPLITS[str(path[3])])]
    return list((tables[str(path[0])] if path else Spec).model_fields)
