"""A run's folder: the resolved spec, the record, the last checkpoint, the adapters.

::

    spec.json              what was asked for and how it was resolved; written first, and changed only
                           when a run is to have more rounds
    record.json            the one record; rewritten whole after every round; at the end with a hash of
                           every file of the next two
    checkpoint/round-0007  the method's state, what clients keep and hold, and the record so far
    adapters/CLIENT        what every client uses at the end: a PEFT folder; heads/ beside them
    progress.json          how far the round is, for who watches; gone when the run is complete
    elsewhere/             where clients work in other processes: what they keep, a log; gone then, too
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedlease import __version__
from fedlease.core.errors import FedLeaseError
from fedlease.core.files import make_folder, read_bytes, read_json, write_json
from fedlease.experiments import heartbeat
from fedlease.experiments.checkpoint import Checkpoint, History, checkpoints, read_last, write
from fedlease.experiments.damage import ASKED, damage, damaged_record
from fedlease.experiments.lock import NAME as LOCK
from fedlease.experiments.lock import lock

FORMAT = 1
"""The layout of spec.json and record.json; a folder of another one is refused."""


TRACKERS = "trackers"
"""What belongs to trackers, in a folder of its own; see `fedlease.experiments.tracking`."""

ELSEWHERE = "elsewhere"
"""What is shared with other processes in which clients work; see `fedlease.deploy.simulation`."""

BEGUN = ("spec.json", "checkpoint", LOCK, heartbeat.NAME, TRACKERS, ELSEWHERE)
"""What a run may leave that was stopped before its first checkpoint."""


@dataclass(frozen=True)
class Store:
    """The folder of one run."""

    folder: Path

    def check_free(self) -> None:
        """Refuse a place where a run or anything else lies already.

        A run that was stopped before its first checkpoint is nothing yet, and gives way.

        Raises:
            FedLeaseError: the folder is a file, or holds something.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise FedLeaseError(f"{self.folder} is a file: choose another --out")
        there = [p.name for p in self.folder.glob("*")] if self.folder.is_dir() else []
        there = [name for name in there if not _temporary(name)]
        if "spec.json" in there and (checkpoints(self.folder) or self.has_record()):
            raise FedLeaseError(
                f"{self.folder} already holds a run: go on with 'fedlease resume {self.folder}', "
                "or choose another --out"
            )
        if [name for name in there if name not in BEGUN]:
            raise FedLeaseError(f"{self.folder} already exists and is not empty: choose another --out")

    @contextmanager
    def created(self, resolved: Mapping[str, Any]) -> Iterator[None]:
        """Make the folder, keep others out of it as `locked` does, and write ``spec.json``.

        Raises:
            FedLeaseError: the place is taken, cannot be written to, or another process begins a run there.
        """
        self.check_free()
        make_folder(self.folder)
        with self.locked():
            self.check_free()  # another may have done a round meanwhile
            shutil.rmtree(self.folder / TRACKERS, ignore_errors=True)  # of a run that gives way
            write_json(self.folder / "spec.json", {"format": FORMAT, **resolved})
            yield

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second process out while this one writes, and clear away what a killed one left half done.

        Raises:
            FedLeaseError: another process runs this run.
        """
        with lock(self.folder):
            for path in sorted(self.folder.rglob(".*")):
                if _temporary(path.name) and path.is_dir():
                    shutil.rmtree(path)
                elif _temporary(path.name):
                    path.unlink(missing_ok=True)  # it may have gone with its folder
            yield

    def resolved(self) -> dict[str, Any]:
        """Read ``spec.json``.

        Raises:
            FedLeaseError: not a run's folder, or one of another format.
        """
        return self._read("spec.json")

    def extend(self, rounds: int) -> None:
        """Ask for more rounds in all.

        Raises:
            FedLeaseError: fewer than are asked for already, or another process runs this run.
        """
        resolved = self.resolved()
        before = int(resolved["spec"]["rounds"])
        if rounds < before:
            raise FedLeaseError(
                f"{self.folder} has {before} rounds: --rounds says how many it is to have in all, "
                f"and {rounds} are fewer"
            )
        if rounds > before:
            resolved["spec"]["rounds"] = rounds
            with lock(self.folder):
                write_json(self.folder / "spec.json", resolved)

    def long_enough(self) -> bool:
        """Tell whether the record has all rounds that are asked for."""
        return len(self.record()["rounds"]) >= int(self.resolved()["spec"]["rounds"])

    def check_version(self) -> None:
        """Refuse to go on with a run that another version of fedlease began: the result would be of neither.

        Raises:
            FedLeaseError: naming both versions.
        """
        found = self.record()["versions"].get("fedlease") if self.has_record() else __version__
        if found != __version__:
            raise FedLeaseError(
                f"{self.folder / 'record.json'} is from fedlease {found} and this is {__version__}: "
                f"go on with that one, or begin anew with another --out"
            )

    def begun(self) -> bool:
        """Tell whether there is a round to go on from."""
        return bool(checkpoints(self.folder))

    def has_record(self) -> bool:
        """Tell whether a round was done and told."""
        return (self.folder / "record.json").is_file()

    def record(self) -> dict[str, Any]:
        """Read ``record.json``.

        Raises:
            FedLeaseError: not a run's folder, no round done yet, or another format.
        """
        return self._read("record.json")

    def _read(self, name: str) -> dict[str, Any]:
        if not (self.folder / "spec.json").is_file():
            raise FedLeaseError(f"{self.folder} is not the folder of a run: it has no spec.json")
        if not (self.folder / name).is_file():
            raise FedLeaseError(f"{self.folder} has no {name}: the run was stopped before its first round")
        value = read_json(self.folder / name)
        found = value.get("format") if isinstance(value, dict) else None
        if found != FORMAT:
            raise FedLeaseError(
                f"{self.folder / name} has format {found}; fedlease {__version__} reads {FORMAT}"
            )
        wrong = damaged_record(value) if name == "record.json" else damage(value, ASKED)
        if wrong is not None:
            raise FedLeaseError(f"{self.folder / name} is damaged: {wrong}; remove the run")
        return dict(value)

    def write_record(self, status: str, history: History, facts: Mapping[str, Any]) -> None:
        """Replace ``record.json`` as a whole: the resolved spec, what happened, what the method tells."""
        resolved = self.resolved()
        latest = history.sessions[-1]
        record = {
            "format": FORMAT,
            "status": status,
            "seed": resolved["spec"]["seed"],
            **{key: latest[key] for key in ("versions", "commit", "machine")},
            "metric": "accuracy",  # what the run says of it comes with the facts
            **resolved,
            **facts,
            **asdict(history),
        }
        write_json(self.folder / "record.json", record)

    def sums(self, client: str | None = None) -> dict[str, str]:
        """Return a hash of every file of adapters and heads, by its path; of adapters, one client's or all.

        Raises:
            FedLeaseError: a file cannot be read.
        """
        adapters = self.folder / "adapters" / (client or "")
        found = sorted(path for part in (adapters, self.folder / "heads") for path in part.rglob("[!.]*"))
        return {
            str(path.relative_to(self.folder)): hashlib.blake2b(read_bytes(path), digest_size=16).hexdigest()
            for path in found
            if path.is_file()
        }

    def save(self, checkpoint: Checkpoint) -> None:
        """Make a checkpoint, see `checkpoint.write`.

        Raises:
            FedLeaseError: it cannot be written; the one before stays.
        """
        write(checkpoint, self.folder)

    def load(self, kind: type[Any]) -> Checkpoint | None:
        """Read the last checkpoint of a method whose state is a ``kind``; None before the first."""
        return read_last(self.folder, kind)


def _temporary(name: str) -> bool:
    """What an atomic write leaves behind when it is killed."""
    return name.startswith(".") and name.endswith((".partial", ".tmp"))
