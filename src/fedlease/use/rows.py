"""Rows to predict: lines of JSON, read as they come, with the columns that a client's data has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import ClientId
from fedlease.data import files, generated, texts
from fedlease.data.sources import Source
from fedlease.experiments.prepare import sources_of
from fedlease.tasks.base import ANSWERS, Example
from fedlease.use.finished import Finished

GENERATED = ("text", "text_pair")
"""What the columns of made-up texts are called, which have no file."""


def sources(finished: Finished, client: ClientId) -> tuple[Source, ...]:
    """Return where a client's rows come from, all with names for their columns."""
    return tuple(map(_named, sources_of(finished.spec, finished.places.beside, client)))


def _named(source: Source) -> Source:
    if source.text or source.generates or source.generated is None:
        return source
    example = generated.split(source.generated)[0][0]
    return replace(source, text=GENERATED[: len(example.texts)])


def asked(source: Source) -> tuple[str, ...]:
    """Return the columns that a row needs to be predicted: those of a labelled row but label or answer."""
    return source.text or source.prompt or (source.messages or "",)


def read(lines: Iterable[bytes], name: str, known: Sequence[Source]) -> Iterator[tuple[str, Example]]:
    """Yield the rows of JSON lines, each with its place; empty lines and other columns are passed over.

    A row is read as one of the first source whose columns it has. A chat that ends with an answer loses it.

    Raises:
        FedLeaseError: naming the line: it is no UTF-8, no JSON object, or lacks a column or its text.
    """
    for number, raw in enumerate(lines, start=1):
        place = f"{name}:{number}"
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise FedLeaseError(f"{place}: is not UTF-8 text") from error
        if line.strip():
            yield place, _example(files.json_row(line, place), place, known)


def _example(row: files.Row, place: str, known: Sequence[Source]) -> Example:
    source = next((each for each in known if set(asked(each)) <= set(row)), known[0])
    files.check_columns(place, asked(source), list(row))
    if source.messages:
        roles, said = texts.messages_of(row, place, source.messages)
        if roles[-1:] == (ANSWERS,):
            roles, said = roles[:-1], said[:-1]
        if not said:
            raise FedLeaseError(f"{place}: column '{source.messages}' holds no message to answer")
        return Example(said, answer="", roles=roles)
    if source.prompt:
        return Example(texts.asked(row, place, source.prompt), answer="")
    return Example(tuple(texts.text(row[column], place, column) for column in source.text))
