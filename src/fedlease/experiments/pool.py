"""Processes that do jobs side by side, one each, and tell how far they are."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from fedlease.core.errors import FedLeaseError


@dataclass(frozen=True)
class Event:
    """A line that a process said, or its end.

    Attributes:
        name: of its task.
        said: the line's values; empty at the end.
        code: the exit status at the end; None before.
    """

    name: str
    said: Mapping[str, Any]
    code: int | None = None


class Pool:
    """Worker processes, ended with this object however it is left."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._events: queue.Queue[Event] = queue.Queue()
        self._running: dict[str, subprocess.Popen[str]] = {}

    @property
    def running(self) -> tuple[str, ...]:
        """The tasks that go on."""
        return tuple(self._running)

    def start(self, name: str, asked: Mapping[str, Any]) -> None:
        """Start a process for a task and send it what is asked.

        Raises:
            FedLeaseError: there is no place to write its messages.
        """
        try:
            self._logs.mkdir(parents=True, exist_ok=True)
            log = (self._logs / f"{name}.log").open("w")
        except OSError as error:
            raise FedLeaseError(f"cannot write {self._logs / name}.log: {error.strerror}") from error
        try:
            with log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "fedlease.experiments.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
        except OSError as error:
            raise FedLeaseError(f"cannot start a process: {error.strerror}") from error
        self._running[name] = process
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died at once: its end comes as an event
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
        threading.Thread(target=self._listen, args=(name, process), daemon=True).start()

    def _listen(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            try:
                self._events.put(Event(name, json.loads(line)))
            except ValueError:  # half a line of a process that was killed
                continue
        self._events.put(Event(name, {}, process.wait()))

    def wait(self, seconds: float) -> Event | None:
        """Return the next event, or None when none came in that time."""
        try:
            event = self._events.get(timeout=seconds)
        except queue.Empty:
            return None
        if event.code is not None:
            process = self._running.pop(event.name)
            _close(process)
            if event.code == 0:
                (self._logs / f"{event.name}.log").unlink(missing_ok=True)
        return event

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._running.values():
            assert process.stdin is not None
            with contextlib.suppress(OSError):  # it ends when its input does
                process.stdin.close()
        for process in self._running.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _close(process: subprocess.Popen[str]) -> None:
    """Close the pipes of a process that has ended."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):  # what it never read cannot be written any more
                stream.close()
