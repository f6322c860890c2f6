"""Atomic writes: a reader sees the old file or the new one, whole, whenever the writer is killed."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from fedlease.core.errors import FedLeaseError


def make_folder(path: Path) -> None:
    """Make a folder with those above it, if it is not there.

    Raises:
        FedLeaseError: it cannot be made; it is named.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FedLeaseError(f"cannot make {path}: {error.strerror or error}") from error


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file beside its place, flush it to disk, then rename it there.

    What is not ``durable`` is not flushed: when the power is cut it may be lost, or lie there empty.

    Raises:
        FedLeaseError: it cannot be written; the old file, if there is one, is left as it was.
    """
    write_parts(path, (content,), durable=durable)


def write_parts(path: Path, parts: Iterable[bytes | memoryview], *, durable: bool = True) -> None:
    """Write a file as `write_bytes` does, part by part as they come.

    Raises:
        FedLeaseError: it cannot be written; nothing is left of it then, nor where the parts end in an error.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            for part in parts:
                file.write(part)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            flush_folder(path.parent)
    except OSError as error:
        raise FedLeaseError(f"cannot write {path}: {error.strerror or error}") from error
    finally:  # after the renaming there is none
        with contextlib.suppress(OSError):
            temporary.unlink()


def flush_folder(path: Path) -> None:
    """Flush the names in a folder to disk, so that what was renamed there is there after a power cut, too."""
    with contextlib.suppress(OSError):  # not every file system can; the files themselves are flushed
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text line by line as they come, as `write_parts` does."""
    write_parts(path, (f"{line}\n".encode() for line in lines))


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    parts = json.JSONEncoder(indent=1, allow_nan=False).iterencode(value)
    write_parts(path, (part.encode() for part in chain(parts, "\n")))  # the whole text is never in memory


def read_bytes(path: Path) -> bytes:
    """Read a file; a missing one is a `FedLeaseError` that names it."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise FedLeaseError(f"cannot read {path}: {error.strerror or error}") from error


def read_json(path: Path) -> Any:
    """Read a JSON file; a missing or damaged one is a `FedLeaseError` that names it."""
    try:
        return json.loads(read_bytes(path))
    except ValueError as error:
        raise FedLeaseError(f"{path} is not valid JSON: {error}") from error
