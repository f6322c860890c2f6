"""Processes that are started, and ended by their ids with all that they started."""

from __future__ import annotations

import ctypes
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import psutil

from fedlease.core.errors import FedLeaseError
from fedlease.core.files import make_folder

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONUNBUFFERED": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",  # Flower's own is a second
}
"""What keeps Flower from asking the network for anything but its server, and from idling."""

PATIENCE = 5.0
"""Seconds that processes have to end by themselves."""

PR_SET_PDEATHSIG = 1


def environment(home: Path) -> dict[str, str]:
    """The environment for Flower's processes: quiet, its files in ``home``, its commands found."""
    return {**os.environ, **QUIET, "FLWR_HOME": str(home), "PATH": _path()}


def _path() -> str:
    """Where commands are looked for: beside this Python first."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def command(name: str) -> str:
    """Where a command of Flower's is.

    Raises:
        FedLeaseError: it is not installed.
    """
    found = shutil.which(name, path=_path())
    if found is None:
        raise FedLeaseError(f"there is no command {name}: install Flower with pip install 'fedlease[flower]'")
    return found


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nobody listens on now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


@dataclass
class _Started:
    """What was started, when it was last, and in which cases it is started again; see `Processes.start`."""

    arguments: Sequence[str]
    since: float
    until: float
    lasted: float


@dataclass
class Processes:
    """A context that ends every process it started when it is left, in the reverse order.

    Each has a process group of its own, so that a Ctrl-C in the terminal is this process's to handle, and is
    ended by the system when this process is killed (on Linux); Flower's own children watch their parents.

    Attributes:
        logs: the folder of their output.
        environment: of all of them.
    """

    logs: Path
    environment: Mapping[str, str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _started: dict[str, _Started] = field(default_factory=dict)
    _families: dict[str, set[psutil.Process]] = field(default_factory=dict)

    def start(
        self, name: str, arguments: Sequence[str], again: float = 0.0, lasted: float = math.inf
    ) -> subprocess.Popen[bytes]:
        """Start a process whose output is added to ``NAME.log``.

        Args:
            name: to end it by.
            arguments: the command.
            again: seconds in which `check` starts it again if it has ended.
            lasted: it does so, too, where it was there for more than so many seconds before it ended.
        """
        now = time.monotonic()
        self._started[name] = _Started(arguments, now, now + again, lasted)
        return self._start(name, arguments)

    def _start(self, name: str, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        make_folder(self.logs)
        with (self.logs / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self.environment),
                start_new_session=True,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
        self._families.setdefault(name, set()).add(psutil.Process(self.running[name].pid))
        return self.running[name]

    def check(self) -> None:
        """Raise where one has ended that should still be there.

        Raises:
            FedLeaseError: with its name and the end of its log.
        """
        for name, process in list(self.running.items()):
            self._families[name] = _family(self._families[name])
            if process.poll() is None:
                continue
            known, now = self._started[name], time.monotonic()
            if now < known.until or now - known.since > known.lasted:
                known.since = now
                self._start(name, known.arguments)
            else:
                raise FedLeaseError(
                    f"{name} ended with status {process.returncode}: {last_line(self.logs / f'{name}.log')}"
                )

    def end(self, name: str, *, kill: bool = False) -> None:
        """End one process and all below it; with ``kill`` at once, as a power cut would."""
        process = self.running.pop(name, None)
        if process is not None:
            _end([process], _family(self._families.pop(name)), kill=kill)

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _end(
            list(reversed(self.running.values())),
            _family(set[psutil.Process]().union(*self._families.values())),
        )
        self.running.clear()
        self._families.clear()


def last_line(path: Path) -> str:
    """The last line of a log that says something; the last of ours, if there is one."""
    lines = [line.strip(" │╭╮╰╯─") for line in path.read_text(errors="replace").splitlines()]
    lines = [line for line in lines if line and line != "Error"]
    ours = [line.partition("fedlease: ")[2] for line in lines if "fedlease: " in line]
    return (ours or lines or ["it said nothing"])[-1]


def _end(
    processes: Sequence[subprocess.Popen[bytes]], everybody: set[psutil.Process], *, kill: bool = False
) -> None:
    """End processes and all of their families, all at once: first politely, then whoever is left."""
    pids = {one.pid for one in everybody}
    for one in everybody:
        with suppress(psutil.NoSuchProcess):
            if kill:
                one.kill()
            elif one.ppid() not in pids:  # whoever is below another is ended by it
                one.terminate()
    _, left = psutil.wait_procs(everybody, timeout=PATIENCE)
    for one in left:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(left, timeout=PATIENCE)
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)


def _family(known: set[psutil.Process]) -> set[psutil.Process]:
    """Those of these that are still there, and all below them; psutil knows each by its id and its start.

    What is below a process that was killed is nobody's child any more, so it must have been known before.
    """
    found: set[psutil.Process] = set()
    for one in known:
        with suppress(psutil.NoSuchProcess):
            if one.is_running() and one.status() != psutil.STATUS_ZOMBIE:
                found |= {one, *one.children(recursive=True)}
    return found


def _end_with_parent() -> None:
    """Have the system end this process when the one that started it is gone."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
