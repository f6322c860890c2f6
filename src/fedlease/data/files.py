"""Rows from JSONL, CSV and Parquet files, each with the place it stands, for errors that name it.

A reader takes a file and the columns wanted, and yields ``(place, row)``: the place is ``file:line``, or
``file, row n`` where a format has no lines. Another format is another entry of `READERS`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedlease.core.errors import FedLeaseError

Row = Mapping[str, Any]
Rows = Iterator[tuple[str, Row]]


def read(path: Path, columns: Sequence[str]) -> list[tuple[str, Row]]:
    """Return all rows of a data file, each with its place; every row has the wanted columns.

    Raises:
        FedLeaseError: no such file, a format that is not known, a file that cannot be read or has no rows,
            a malformed row, a column that is missing.
    """
    if not path.is_file():
        raise FedLeaseError(f"{path}: {'is a folder, not a data file' if path.is_dir() else 'no such file'}")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(READERS)
        raise FedLeaseError(f"{path}: unknown format '{path.suffix}'; data files end in one of {known}")
    try:
        rows = list(reader(path, columns))
    except OSError as error:
        raise FedLeaseError(f"{path}: cannot be read ({one_line(error)})") from error
    if not rows:
        raise FedLeaseError(f"{path}: has no rows")
    return rows


def columns(path: Path) -> tuple[str, ...]:
    """Return the columns of a data file, those of its first row; errors are those of `read`."""
    if path.suffix.lower() == ".parquet" and path.is_file():
        import pyarrow
        import pyarrow.parquet

        try:
            return tuple(pyarrow.parquet.read_schema(path).names)
        except (pyarrow.ArrowException, OSError) as error:
            raise FedLeaseError(f"{path}: is not a valid Parquet file ({one_line(error)})") from error
    return tuple(read(path, ())[0][1])


def check_columns(place: str, wanted: Sequence[str], found: Sequence[str]) -> None:
    """Raise a FedLeaseError that names the columns missing at this place, and those there are."""
    missing = [column for column in wanted if column not in found]
    if missing:
        names = ", ".join(f"'{column}'" for column in missing)
        raise FedLeaseError(f"{place}: no column {names}; there are: {', '.join(map(str, found)) or 'none'}")


def one_line(error: BaseException, longest: int = 300) -> str:
    """Return an error's message on one line, cut where a library has written pages."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= longest else text[:longest] + "..."


def _decoded(path: Path) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")  # spreadsheets put a byte order mark in front
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise FedLeaseError(f"{path}:{line}: is not UTF-8 text; save the file as UTF-8") from error


def _jsonl(path: Path, columns: Sequence[str]) -> Rows:
    # Not splitlines(): JSON strings may hold characters that it takes for line ends.
    for number, line in enumerate(_decoded(path).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        row = json_row(line, place)
        check_columns(place, columns, list(row))
        yield place, row


def json_row(line: str, place: str) -> Row:
    """Return the object that a line of JSONL holds; if it holds none, a `FedLeaseError` names the place."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise FedLeaseError(f"{place}: is not valid JSON ({one_line(error)})") from error
    if not isinstance(row, dict):
        raise FedLeaseError(f"{place}: is not a JSON object; each line must be one, {{...}}")
    return row


def _csv(path: Path, columns: Sequence[str]) -> Rows:
    table = csv.reader(io.StringIO(_decoded(path), newline=""), strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for cells in table:
            place, line = f"{path}:{line}", table.line_num + 1
            if not cells:
                continue
            if header is None:
                header = cells
                if twice := next((name for name in header if header.count(name) > 1), None):
                    raise FedLeaseError(f"{place}: the header has the column '{twice}' twice")
                check_columns(place, columns, header)
                continue
            if len(cells) != len(header):
                raise FedLeaseError(f"{place}: has {len(cells)} cells where the header has {len(header)}")
            yield place, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise FedLeaseError(f"{path}:{line}: is not valid CSV ({one_line(error)})") from error


def _parquet(path: Path, columns: Sequence[str]) -> Rows:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        check_columns(str(path), columns, file.schema_arrow.names)
        rows = file.read(columns=list(dict.fromkeys(columns))).to_pylist()
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise FedLeaseError(f"{path}: is not a valid Parquet file ({one_line(error)})") from error
    for number, row in enumerate(rows, start=1):
        yield f"{path}, row {number}", row


READERS: Mapping[str, Callable[[Path, Sequence[str]], Rows]] = {
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
}
"""File ending -> reader."""
