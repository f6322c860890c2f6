"""Where and with what a run is done: versions, commit, machine."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fedlease import __version__
from fedlease.core.machine import processor

PACKAGES = ("torch", "transformers", "peft", "scikit-learn", "scipy", "numpy")


def surroundings(also: Iterable[str] = ()) -> dict[str, Any]:
    """Return versions (``also`` of further packages), commit and machine as they are when a run starts."""
    packages = {name: version(name) for name in (*PACKAGES, *also)}
    return {
        "versions": {"fedlease": __version__, "python": platform.python_version(), **packages},
        "commit": _commit(),
        "machine": {"system": platform.system(), "processor": processor()},
    }


def _commit() -> str | None:
    """The commit this package is used from, with ``+`` when its files differ from it; None if installed."""
    package = Path(__file__).resolve().parents[1]
    commit = _git(package, "log", "-1", "--format=%H", "--", ".")
    changed = _git(package, "status", "--porcelain", "--", ".")
    return f"{commit}{'+' if changed else ''}" if commit else None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
