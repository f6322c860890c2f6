"""What a specification says of a client, or of a group of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from fedlease.core.errors import FedLeaseError
from fedlease.data.catalog import CATALOG, find
from fedlease.data.splits import SPLITS, Quantity, Split
from fedlease.tasks import TASKS

Rows = Annotated[int, Field(gt=0)]


class Table(BaseModel):
    """A table of a specification: no unknown keys, never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


ANYWHERE = {"name", "count", "task", "train_rows", "test_rows", "split"}
GENERATION = TASKS["generation"].columns
ONLY_WITH: Mapping[str, set[str]] = {
    "data": set(),
    "train": {"test"},
    "hub": {"hub_config", "train_split", "test_split"},
}
"""Which keys of a client go with each way to say where its rows are; all but the first name columns too."""


class ClientSpec(Table):
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
        prompt, answer: for generation in place of text and label: the columns of the prompt, and of the text
            to be written.
        messages: for generation too: the column of a chat, a list of ``{role, content}`` that ends with the
            assistant's answer.
        task: one of `TASKS`; ``classification`` or ``generation`` follow from the data or the columns.
        train_rows, test_rows: rows for each client; None is an equal share of all.
        split: how the training rows of ``count`` clients differ in labels or number, see `splits`.
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
    prompt: tuple[str, ...] = ()
    answer: str | None = None
    messages: str | None = None
    task: str = "classification"
    train_rows: Rows | None = None
    test_rows: Rows | None = None
    split: Annotated[Split, Field(discriminator="by")] | None = None

    @model_validator(mode="before")
    @classmethod
    def _task_of_the_rows(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or "task" in given:
            return given
        data = given.get("data")
        names = [data] if isinstance(data, str) else data if isinstance(data, list | tuple) else []
        named = any(isinstance(n, str) and n in CATALOG and CATALOG[n].generates for n in names)
        generates = named or any(given.get(key) for key in GENERATION)
        return {**given, "task": "generation"} if generates else given

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
        if "label" not in TASKS[self.task].columns and not isinstance(self.split, Quantity):
            raise ValueError(f"split by {self.split.by} is by labels, and {self.task} has none: use quantity")
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
        columns = set() if place == "data" else set(TASKS[self.task].columns)
        stray = sorted(said - ANYWHERE - {place} - ONLY_WITH[place] - columns)
        if stray:
            of_other = place != "data" and any(stray[0] in task.columns for task in TASKS.values())
            raise ValueError(
                f"{stray[0]} means nothing beside {self.task if of_other else place}: leave it out"
            )
        self._check_columns(place)
        if place == "data" and (not self.names or len(set(self.names)) < len(self.names)):
            raise ValueError(f"data is {list(self.names)}: name at least one data set, each once")
        return self

    def _check_columns(self, place: str) -> None:
        task = TASKS[self.task]
        if place == "data":
            for name in self.names:
                try:
                    source = find(name)
                except FedLeaseError as error:
                    raise ValueError(str(error)) from error
                if source.generates != ("prompt" in task.columns):
                    rows = "prompts and answers" if source.generates else "texts and labels"
                    raise ValueError(f"{name} has {rows}, and the client's task is {self.task}")
            return
        try:
            task.check_columns({key: getattr(self, key) for key in task.columns})
        except FedLeaseError as error:
            raise ValueError(str(error)) from error

    @model_serializer(mode="wrap")
    def _told(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave keys of generation out where they say nothing: records are those of versions without them."""
        told: dict[str, Any] = write(self)
        return {key: value for key, value in told.items() if value or key not in GENERATION}

    @property
    def names(self) -> tuple[str, ...]:
        """The named data sets; none for files and a hub data set."""
        return (self.data,) if isinstance(self.data, str) else self.data or ()

    @property
    def ids(self) -> tuple[str, ...]:
        """The names of the clients this entry stands for."""
        return (self.name,) if self.count is None else tuple(f"{self.name}-{i}" for i in range(self.count))
