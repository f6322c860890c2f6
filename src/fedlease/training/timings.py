"""What was measured on this machine, kept: so that a model is measured once, and every run chooses alike."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fedlease.core.errors import FedLeaseError
from fedlease.core.files import read_json, write_json
from fedlease.core.machine import processor
from fedlease.training.measured import measure
from fedlease.training.models import ALIASES, known_as, resolve
from fedlease.training.precision import Timings, cpu_multiplies_bfloat16

VARIABLE = "FEDLEASE_MEASURE"
"""An environment variable: where it is 0, nothing is measured unasked, and nothing that was is heeded."""


def place() -> Path:
    """The file of what was measured on this machine: under ``XDG_CACHE_HOME`` (``~/.cache``)."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "fedlease" / "timings.json"


def remember(name: str, threads: int, timings: Timings, beside: Path | None = None) -> Path:
    """Write down what was measured, and return where.

    Raises:
        FedLeaseError: it cannot be written, or what is there is damaged.
    """
    path = place()
    with _alone(path):
        known = read_json(path) if path.is_file() else {}
        if not isinstance(known, dict):
            raise _damaged(path)
        write_json(path, {**known, _key(name, threads, beside): asdict(timings)})
    return path


def recall(name: str, threads: int, beside: Path | None = None) -> Timings | None:
    """Return what was measured for a model with so many threads on this machine; None if nothing was.

    A relative path is meant from ``beside``, see `resolve`.

    Raises:
        FedLeaseError: the file is damaged.
    """
    path = place()
    if not os.access(path, os.R_OK):
        return None
    try:
        told = read_json(path).get(_key(name, threads, beside))
        return None if told is None else _read(told)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path) from error


def measure_once(
    name: str,
    threads: int,
    targets: Sequence[str] | None = None,
    beside: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Measure a model and remember it, unless that was done before, here or by a process that is at it.

    Where it cannot be measured, or not be remembered, or where others fill the machine, nothing is: the rule
    of `choose` holds then.

    Raises:
        FedLeaseError: the file of what was measured is damaged.
    """
    if recall(name, threads, beside) is not None:
        return
    load, cores = _load()
    if load > cores:
        tell(
            f"{name}: the machine is busy (a load of {load:.1f} on {cores} cores), so that what it computes "
            "fastest is not measured now; the usual number format, attention and batches are taken"
        )
        return
    try:
        with _alone(place(), ".measuring"):
            if recall(name, threads, beside) is None:
                tell(
                    f"{name}: measuring how this machine computes it fastest with {threads} thread(s), once; "
                    f"kept in {place()}"
                )
                remember(name, threads, measure(name, threads, targets=targets, beside=beside), beside)
    except FedLeaseError as error:
        tell(f"{error}; the usual number format, attention and batches are taken")


def _load() -> tuple[float, int]:
    """How many processes wanted to compute in the last minute, where that is known, and on how many cores."""
    try:
        load = os.getloadavg()[0]
    except (AttributeError, OSError):
        load = 0.0
    return load, os.cpu_count() or 1


@contextmanager
def _alone(path: Path, suffix: str = ".lock") -> Iterator[None]:
    """Wait until no other process is at it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_name(path.name + suffix).open("w")
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        raise FedLeaseError(f"cannot write in {path.parent}: {error.strerror}") from error
    with file:
        yield


def _read(told: Mapping[str, Any]) -> Timings:
    return Timings(
        {str(way): float(seconds) for way, seconds in told["step"].items()},
        str(told["way"]),
        {int(rows): float(seconds) for rows, seconds in told["train"].items()},
        {int(rows): float(seconds) for rows, seconds in told["score"].items()},
    )


def _damaged(path: Path) -> FedLeaseError:
    return FedLeaseError(f"{path} is damaged: remove it, and run 'fedlease tune' again")


def _key(name: str, threads: int, beside: Path | None = None) -> str:
    """What a measurement holds for: the model by its name or folder, threads, processor, torch.

    Processors of one name may have other instructions, where a machine is virtual: so these are named, too.
    """
    known = ALIASES.get(name.lower(), name.lower())
    model = known if known_as(name) else resolve(name, beside)
    instructions = torch.backends.cpu.get_cpu_capability()
    native = "native" if cpu_multiplies_bfloat16() else "no"
    return (
        f"{model}, {threads} threads, {processor()} with {instructions} and {native} bfloat16, "
        f"torch {torch.__version__}"
    )
