"""Where rows are, and the rows: one description for files, data sets of a hub, and generated tasks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from fedlease.core.errors import FedLeaseError
from fedlease.data import files, generated, labels, texts
from fedlease.data.hub import stay_local
from fedlease.tasks.base import Example

__all__ = ["Example", "Source", "Table", "load"]


@dataclass(frozen=True)
class Source:
    """Where a task's rows are and which columns hold them.

    Of several places the first that can be used counts: the files when a root folder is given (or the path
    is absolute, or there is no hub data set), then the hub, then the generated task.

    Attributes:
        text: one or two text columns to classify; empty for a generated task.
        label: the label column; it may hold integers, booleans or strings.
        labels: label names by index; empty means those found in the data, sorted.
        train: file of the training rows: JSONL, CSV or Parquet. A relative path is under the root folder.
        test: file of the test rows; None means that test rows are held out of the training file.
        hub: name of a data set on the Hugging Face hub, with its configuration and splits;
            ``test_split=None`` holds test rows out of the training split.
        generated: name of a built-in generated task.
        prompt: for generation, in place of text and label: columns that make up the prompt; where there are
            several, those empty in a row are left out.
        answer: beside prompt, the column of the text that a model is to write.
        messages: for generation too, in place of prompt and answer: the column of a chat, a list of
            ``{role, content}`` whose last message is the assistant's answer.
    """

    text: tuple[str, ...] = ()
    label: str = "label"
    labels: tuple[str, ...] = ()
    train: str | None = None
    test: str | None = None
    hub: str | None = None
    hub_config: str | None = None
    train_split: str = "train"
    test_split: str | None = None
    generated: str | None = None
    prompt: tuple[str, ...] = ()
    answer: str | None = None
    messages: str | None = None

    def __post_init__(self) -> None:
        if not (self.train or self.hub or self.generated):
            raise FedLeaseError("a data source needs one of: train (a file), hub, generated")
        if self.test and not self.train:
            raise FedLeaseError(f"{self.test}: a test file needs a train file beside it")
        if bool(self.prompt) != (self.answer is not None) or (self.prompt and self.messages):
            raise FedLeaseError(f"{self}: name prompt and answer columns, or the column of messages")
        if self.generates and (self.text or self.labels):
            raise FedLeaseError(f"{self}: text and labels mean nothing beside prompts and answers")
        if len({*self.prompt, self.answer}) <= len(self.prompt):
            raise FedLeaseError(f"{self}: prompt and answer must be different columns")
        if len(self.text) not in (1, 2) and (self.train or self.hub) and not self.generates:
            raise FedLeaseError(f"{self}: text names {len(self.text)} columns; name one or two")
        if self.label in self.text:
            raise FedLeaseError(f"{self}: column '{self.label}' is both text and label")
        if len(self.labels) == 1 or len(set(self.labels)) != len(self.labels):
            raise FedLeaseError(
                f"{self}: labels are {', '.join(self.labels)}; name two or more, all different"
            )

    def __str__(self) -> str:
        return self.train or self.hub or f"generated {self.generated}"

    @property
    def generates(self) -> bool:
        """Whether rows are prompts and answers, and have no labels."""
        return bool(self.prompt or self.messages)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read."""
        if self.generates:
            return tuple(column for column in (*self.prompt, self.answer, self.messages) if column)
        return (*self.text, self.label)

    @property
    def key(self) -> str:
        """What seeds the shuffling of the rows: it leaves out folders, so it is the same on every machine.

        Named prompts and answers keep their task's folder: all of FLAN's files have the same names.
        """
        whole = self.generates and not Path(self.train or "").is_absolute()
        files = (self.train, self.test)
        names = [name if whole or not name else Path(name).name for name in files]
        parts = [*names, self.hub, self.hub_config, self.generated]
        parts += self.columns
        return "/".join(part or "" for part in parts)


@dataclass(frozen=True)
class Table:
    """A source's rows. ``test`` is None where test rows are to be held out of ``train``.

    ``labels`` is empty where the rows are prompts and answers.
    """

    train: tuple[Example, ...]
    test: tuple[Example, ...] | None
    labels: tuple[str, ...]
    origin: str


def load(source: Source, root: Path | None = None) -> Table:
    """Read a source's rows: again in the same process only when a file has another size or time of change.

    Outer white space of texts is stripped.

    Args:
        source: where the rows are.
        root: the folder relative paths are under; None means the working directory, and for a source that
            is on the hub too, the hub.

    Raises:
        FedLeaseError: naming the file, line or column: a missing file or column, a malformed, empty or
            non-UTF-8 file, an empty text, a label out of range, a hub that cannot be reached.
    """
    return _load(source, root, tuple(map(_stamp, _paths(source, root))))


Stamp = tuple[str, int, int]
"""A file as it was read: absolute path, size, time of change in nanoseconds."""


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:  # reading it says what is wrong
        return str(path.absolute()), -1, -1
    return str(path.absolute()), found.st_size, found.st_mtime_ns


def _paths(source: Source, root: Path | None) -> list[Path]:
    """The files that a source's rows are read from; none for the hub and for generated texts."""
    if not source.train or (root is None and source.hub and not Path(source.train).is_absolute()):
        return []
    return [(root or Path()) / name for name in (source.train, source.test) if name]


@lru_cache(maxsize=64)
def _load(source: Source, root: Path | None, stamps: tuple[Stamp, ...]) -> Table:
    if stamps:
        return _from_files(source, _paths(source, root))
    if source.hub:
        return _from_hub(source, source.hub)
    assert source.generated is not None  # Source refuses to be without any place
    train, test = generated.split(source.generated)
    return Table(train, test, generated.labels(source.generated), f"generated task {source.generated}")


def _from_files(source: Source, paths: list[Path]) -> Table:
    beneath = source.train is not None and not Path(source.train).is_absolute()
    if source.generates and beneath and not paths[0].exists():
        raise FedLeaseError(
            f"{paths[0]}: no such file; name the folder it is under in FEDLEASE_DATA or data.root"
        )
    if len(paths) == 2 and paths[0].resolve() == paths[1].resolve():
        paths.pop()  # one file for both: test rows are held out of it
    parsed = [_parsed(source, files.read(path, source.columns)) for path in paths]
    return _table(source, parsed, source.labels, " and ".join(map(str, paths)))


def _from_hub(source: Source, hub: str) -> Table:
    origin = f"hub data set {hub}" + (f" ({source.hub_config})" if source.hub_config else "")
    names = source.labels
    parsed = []
    splits = [source.train_split]
    if source.test_split and source.test_split != source.train_split:
        splits.append(source.test_split)
    for split in splits:
        place = f"{origin}, split {split}"
        data = _hub_split(hub, source.hub_config, split, place)
        files.check_columns(place, source.columns, data.column_names)
        if not source.generates:
            names = names or tuple(getattr(data.features[source.label], "names", None) or ())
        rows = data.select_columns(list(source.columns))
        parsed.append(_parsed(source, ((f"{place}, row {n}", row) for n, row in enumerate(rows, start=1))))
        if not parsed[-1]:
            raise FedLeaseError(f"{place}: has no rows")
    return _table(source, parsed, names, origin)


def _hub_split(hub: str, config: str | None, split: str, place: str) -> Any:
    stay_local(os.environ)
    try:
        import datasets

        return datasets.load_dataset(hub, config, split=split)
    except Exception as error:  # the library raises a dozen unrelated kinds, some of other libraries
        raise FedLeaseError(
            f"{place}: cannot be loaded ({files.one_line(error)}); check the names and the connection, "
            "or give a folder of data"
        ) from error


_Parsed = list[tuple[str, Example, str]]  # place, row, label as a word ("" where there is none)


def _parsed(source: Source, rows: Iterable[tuple[str, files.Row]]) -> _Parsed:
    parsed = []
    for place, row in rows:
        word = ""
        if source.messages:
            example = texts.talked(row, place, source.messages)
        elif source.answer is not None:
            example = texts.prompted(row, place, source.prompt, source.answer)
        else:
            example = Example(tuple(texts.text(row[column], place, column) for column in source.text))
            word = labels.word(row[source.label], place, source.label)
        parsed.append((place, example, word))
    return parsed


def _table(source: Source, parsed: Sequence[_Parsed], names: tuple[str, ...], origin: str) -> Table:
    if source.generates:
        parts = [tuple(example for _, example, _ in rows) for rows in parsed]
    else:
        names = names or labels.found([word for rows in parsed for _, _, word in rows], origin)
        parts = [
            tuple(
                replace(example, label=labels.index(word, names, place, source.label))
                for place, example, word in rows
            )
            for rows in parsed
        ]
    return Table(parts[0], parts[1] if len(parts) == 2 else None, names, origin)
