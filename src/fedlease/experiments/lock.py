"""One process at a run, or at what a site keeps: a lock that ends with its process, however that dies."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fedlease.core.errors import FedLeaseError

NAME = ".lock"

TRIES, PAUSE = 5, 0.02
"""Whoever watches a run holds its lock for a moment, again and again: one refusal means nothing."""


@contextmanager
def lock(folder: Path, what: str = "this run") -> Iterator[None]:
    """Keep a second process out while this one writes.

    Args:
        folder: to be locked; it is there.
        what: lies in it, for the error.

    Raises:
        FedLeaseError: another process is at it, or the lock cannot be written.
    """
    try:
        opened = (folder / NAME).open("w")
    except OSError as error:
        raise FedLeaseError(f"cannot write {folder / NAME}: {error.strerror}") from error
    with opened as file:
        for left in reversed(range(TRIES)):
            if _taken(file, fcntl.LOCK_EX):
                break
            if not left:
                raise FedLeaseError(f"{folder}: another process is at {what}")
            time.sleep(PAUSE)
        yield


def is_locked(folder: Path) -> bool:
    """Tell whether a process is at the run in this folder.

    Raises:
        FedLeaseError: the lock cannot be read.
    """
    try:
        with (folder / NAME).open() as file:
            return not _taken(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise FedLeaseError(f"cannot read {folder / NAME}: {error.strerror}") from error


def _taken(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
