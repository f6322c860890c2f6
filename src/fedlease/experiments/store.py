"""A run's folder: the resolved spec, the record, the last checkpoint, the adapters.

::

    spec.json              what was asked for and how it was resolved; written first, never changed
    record.json            the one record; rewritten whole after every round
    checkpoint/round-0007  the method's state, what clients keep, and the record's rounds
    adapters/CLIENT        what every client uses at the end: a PEFT folder; heads/ beside them
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from fedlease.core.codec import load_value, save_value
from fedlease.core.errors import FedLeaseError
from fedlease.core.files import read_json, write_json
from fedlease.core.protocols import ClientId

FORMAT = 1
"""The layout of spec.json and record.json; a folder of another one is refused."""

S = TypeVar("S")


@dataclass(frozen=True)
class Kept:
    """What clients keep between rounds, and how many rounds are behind them."""

    round: int
    weights: dict[ClientId, dict[str, Tensor]]


@dataclass(frozen=True)
class Store:
    """The folder of one run."""

    folder: Path

    @classmethod
    def create(cls, folder: Path, resolved: Mapping[str, Any]) -> Store:
        """Make the folder and write ``spec.json``.

        Raises:
            FedLeaseError: the folder already holds something, or cannot be made.
        """
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise FedLeaseError(
                f"{folder} already exists and is not empty: go on with 'fedlease resume {folder}', "
                "or choose another --out"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / "spec.json", {"format": FORMAT, **resolved})
        except OSError as error:
            raise FedLeaseError(f"cannot write to {folder}: {error.strerror}") from error
        return cls(folder)

    def resolved(self) -> dict[str, Any]:
        """Read ``spec.json``.

        Raises:
            FedLeaseError: not a run's folder, or one of another format.
        """
        return self._read("spec.json")

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
                f"{self.folder / name} has format {found}; fedlease {version('fedlease')} reads {FORMAT}"
            )
        return dict(value)

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Replace ``record.json`` as a whole."""
        write_json(self.folder / "record.json", {"format": FORMAT, **record})

    def save(self, state: Any, kept: Kept, rounds: list[dict[str, Any]]) -> None:
        """Make the checkpoint of ``kept.round``: written beside, renamed into place, older ones removed."""
        final = self._checkpoint(kept.round)
        partial = final.with_name(f".{final.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_value(state, partial, "state")
        save_value(kept, partial, "kept")
        write_json(partial / "rounds.json", rounds)
        partial.rename(final)
        for older in self._checkpoints()[:-1]:
            shutil.rmtree(older)

    def load(self, kind: type[S]) -> tuple[S, Kept, list[dict[str, Any]]] | None:
        """Read the last checkpoint: state, what clients keep, the record's rounds; None before the first."""
        found = self._checkpoints()
        if not found:
            return None
        last = found[-1]
        rounds: list[dict[str, Any]] = read_json(last / "rounds.json")
        return load_value(kind, last, "state"), load_value(Kept, last, "kept"), rounds

    def _checkpoint(self, round: int) -> Path:
        return self.folder / "checkpoint" / f"round-{round:06d}"

    def _checkpoints(self) -> list[Path]:
        return sorted((self.folder / "checkpoint").glob("round-*"))


def surroundings() -> dict[str, Any]:
    """Versions, commit and machine, for the record."""
    packages = ("fedlease", "torch", "transformers", "peft", "scikit-learn", "scipy", "numpy")
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "commit": _commit(),
        "machine": {"system": platform.system(), "processor": _processor()},
    }


def _commit() -> str | None:
    """The commit of the checkout this package is used from; None where it is installed."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "log", "-1", "--format=%H", "--", str(here.parent)]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return shown.stdout.strip() or None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
