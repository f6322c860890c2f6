"""Where rows are, and the rows: one description for files, data sets of a hub, and generated tasks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fedlease.core.errors import FedLeaseError
from fedlease.data import files, generated, labels
from fedlease.data.hub import stay_local
from fedlease.tasks.base import Example

__all__ = ["Example", "Source", "Table", "load"]


@dataclass(frozen=True)
class Source:
    """Where a task's rows are and which columns hold them.

    Of several places the first that can be used counts: the files when a root folder is given (or the path
    is absolute, or there is no hub data set), then the hub, then the generated task.

    Attributes:
        text: one or two text columns; empty for a generated task.
        label: the label column; it may hold integers, booleans or strings.
        labels: label names by index; empty means those found in the data, sorted.
        train: file of the training rows: JSONL, CSV or Parquet. A relative path is under the root folder.
        test: file of the test rows; None means that test rows are held out of the training file.
        hub: name of a data set on the Hugging Face hub, with its configuration and splits;
            ``test_split=None`` holds test rows out of the training split.
        generated: name of a built-in generated task.
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

    def __post_init__(self) -> None:
        if not (self.train or self.hub or self.generated):
            raise FedLeaseError("a data source needs one of: train (a file), hub, generated")
        if self.test and not self.train:
            raise FedLeaseError(f"{self.test}: a test file needs a train file beside it")
        if len(self.text) not in (1, 2) and (self.train or self.hub):
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
    def key(self) -> str:
        """What seeds the shuffling of the rows: it leaves out folders, so it is the same on every machine."""
        names = [Path(name).name if name else None for name in (self.train, self.test)]
        parts = [*names, self.hub, self.hub_config, self.generated, *self.text, self.label]
        return "/".join(part or "" for part in parts)


@dataclass(frozen=True)
class Table:
    """A source's rows. ``test`` is None where test rows are to be held out of ``train``."""

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
    columns = (*source.text, source.label)
    if len(paths) == 2 and paths[0].resolve() == paths[1].resolve():
        paths.pop()  # one file for both: test rows are held out of it
    parsed = [_parsed(source, files.read(path, columns)) for path in paths]
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
        files.check_columns(place, (*source.text, source.label), data.column_names)
        names = names or tuple(getattr(data.features[source.label], "names", None) or ())
        rows = data.select_columns([*source.text, source.label])
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


_Parsed = list[tuple[str, tuple[str, ...], str]]  # place, texts, label as a word


def _parsed(source: Source, rows: Iterable[tuple[str, files.Row]]) -> _Parsed:
    return [
        (
            place,
            tuple(_text(row[column], place, column) for column in source.text),
            labels.word(row[source.label], place, source.label),
        )
        for place, row in rows
    ]


def _text(value: object, place: str, column: str) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise FedLeaseError(f"{place}: the text in column '{column}' is empty")
    if not isinstance(value, str):
        raise FedLeaseError(f"{place}: column '{column}' holds {type(value).__name__} {value!r}, not text")
    if not value.isprintable() and any("\ud800" <= character <= "\udfff" for character in value):
        raise FedLeaseError(f"{place}: column '{column}' holds half of a character (a lone surrogate escape)")
    return value.strip()


def _table(source: Source, parsed: Sequence[_Parsed], names: tuple[str, ...], origin: str) -> Table:
    names = names or labels.found([label for rows in parsed for _, _, label in rows], origin)
    parts = [
        tuple(Example(texts, labels.index(label, names, place, source.label)) for place, texts, label in rows)
        for rows in parsed
    ]
    return Table(parts[0], parts[1] if len(parts) == 2 else None, names, origin)
