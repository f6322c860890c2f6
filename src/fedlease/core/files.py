"""Atomic writes: a reader sees the old file or the new one, whole, whenever the writer is killed."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fedlease.core.errors import FedLeaseError


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file beside its place, flush it to disk, then rename it there.

    What is not ``durable`` is not flushed: when the power is cut it may be lost, or lie there empty.

    Raises:
        FedLeaseError: it cannot be written; the old file, if there is one, is left as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise FedLeaseError(f"cannot write {path}: {error.strerror or error}") from error
    finally:  # after the renaming there is none
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a file line by line as they come, beside its place, then rename it there.

    Raises:
        FedLeaseError: it cannot be written; nothing is left of it then, nor where the lines end in an error.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            for line in lines:
                file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise FedLeaseError(f"cannot write {path}: {error.strerror or error}") from error
    finally:  # after the renaming there is none
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_bytes(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


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
