"""What a run tells of the round that goes on, for who watches it from another process.

::

    progress.json   {"format": 1, "told": 1790000000.0, "from_round": 3, "round": 4, "why": null,
                     "seconds": 61.5, "done": 2240.0, "trained": {"rows": 1800, "seconds": 50.1},
                     "now": "bank-0",
                     "clients": {"bank-0": {"purpose": "train", "done": 96, "total": 300, "loss": 0.51}}}

``told`` is the time it was written, in seconds since 1970; ``from_round`` the rounds that were done when
this process went on; ``seconds`` and ``done`` the time since then and what was done in it, rows scored at the
price of `SCORING`; ``trained`` what was trained of it, and how long that took; ``clients`` what each did last
in this round; ``why`` what the run ended by.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from json import JSONDecodeError, dumps, loads
from pathlib import Path
from typing import Any

from fedlease import __version__
from fedlease.core.errors import FedLeaseError
from fedlease.core.files import write_bytes
from fedlease.core.progress import Progress
from fedlease.core.protocols import ClientId
from fedlease.experiments.work import SCORING

FORMAT = 1
NAME = "progress.json"

EVERY = 1.0
"""Seconds between two writes."""


@dataclass
class Doing:
    """What a client did last in a round; see `core.progress.Progress`."""

    purpose: str
    done: int
    total: int
    loss: float | None


@dataclass
class Beat:
    """How far a run is; see the module's words."""

    from_round: int
    round: int
    told: float = 0.0
    seconds: float = 0.0
    done: float = 0.0
    trained: dict[str, float] = field(default_factory=lambda: {"rows": 0, "seconds": 0.0})
    now: ClientId | None = None
    clients: dict[ClientId, Doing] = field(default_factory=dict)
    why: str | None = None


class Heartbeat:
    """Listens to a run and writes, at most every `EVERY` seconds, how far it is; it never stops the run.

    Args:
        folder: of the run.
        done: rounds that are done.
        rounds: how many there are.
    """

    def __init__(self, folder: Path, done: int, rounds: int) -> None:
        self._path, self._rounds = folder / NAME, rounds
        self._beat = Beat(done, min(done + 1, rounds))
        self._began = self._wrote = time.monotonic()
        self._write()

    def step(self, step: Progress) -> None:
        """Take note of a batch."""
        beat, trains = self._beat, step.loss is not None
        beat.done += step.rows * (1.0 if trains else SCORING)
        if trains and not step.reused:
            beat.trained["rows"] += step.rows
            beat.trained["seconds"] += step.seconds
        before = beat.clients.get(step.client)
        loss = step.loss if trains or before is None else before.loss
        beat.now, beat.clients[step.client] = step.client, Doing(step.purpose, step.done, step.total, loss)
        if time.monotonic() - self._wrote >= EVERY:
            self._write()

    def round(self, entry: dict[str, Any]) -> None:
        """A round is done and in the record."""
        self._beat.round = min(entry["round"] + 1, self._rounds)
        self._beat.now, self._beat.clients = None, {}
        self._write()

    def end(self, why: str | None) -> None:
        """Tell why the run broke off; without a reason it is complete, and its record tells all."""
        if why is None:
            with suppress(OSError):
                self._path.unlink()
        else:
            self._beat.why = why
            self._write()

    def _write(self) -> None:
        self._wrote = time.monotonic()
        self._beat.told, self._beat.seconds = time.time(), self._wrote - self._began
        with suppress(FedLeaseError):  # where nothing can be written the checkpoint will say so
            content = dumps({"format": FORMAT, **asdict(self._beat)})
            write_bytes(self._path, content.encode(), durable=False)


@contextmanager
def beating(folder: Path, done: int, rounds: int) -> Iterator[Heartbeat]:
    """While this is open the run in a folder goes on; whatever ends it is told."""
    heart = Heartbeat(folder, done, rounds)
    try:
        yield heart
    except KeyboardInterrupt:
        heart.end("it was interrupted")
        raise
    except BaseException as error:
        kind = "" if isinstance(error, FedLeaseError) else type(error).__name__
        heart.end(" ".join(f"{kind} {error}".split()))
        raise
    heart.end(None)


def read(folder: Path) -> Beat | None:
    """Read how far a run is; None where nothing is told, or the power was cut while it was.

    Raises:
        FedLeaseError: it cannot be read, or is of another format.
    """
    path = folder / NAME
    try:
        value = loads(path.read_bytes())
    except (FileNotFoundError, JSONDecodeError, UnicodeDecodeError):
        return None
    except OSError as error:
        raise FedLeaseError(f"cannot read {path}: {error.strerror}") from error
    found = value.get("format") if isinstance(value, dict) else None
    if found != FORMAT:
        raise FedLeaseError(f"{path} has format {found}; fedlease {__version__} reads {FORMAT}")
    try:
        told = {key: item for key, item in value.items() if key not in ("format", "clients")}
        return Beat(**told, clients={client: Doing(**doing) for client, doing in value["clients"].items()})
    except (KeyError, TypeError, AttributeError) as error:
        raise FedLeaseError(f"{path} is damaged: {error}") from error
