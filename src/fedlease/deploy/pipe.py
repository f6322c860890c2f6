"""Between the short-lived process that Flower starts for a message and the site's worker, which stays.

A Unix socket in a folder of the site's own account; what goes over it are bytes, never pickled objects.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

from fedlease.core.errors import FedLeaseError
from fedlease.core.wired import Wired

PATIENCE = 300.0
"""Seconds that a worker has to be there: it imports and loads much."""

DEATHS = 2
"""How often a worker may end over one question."""

DYING = 5.0
"""Seconds in which the socket of a worker that was killed may still take questions that nobody reads."""

Told = tuple[str, Wired | None, dict[str, Any]]
"""What kind of message, its bytes if it has any, and the values beside it."""

Handler = Callable[[str, Wired, dict[str, Any]], Told]


def send(to: Connection, told: Told) -> None:
    """Send one message."""
    kind, wired, beside = told
    head = {"kind": kind, "beside": beside}
    if wired is not None:
        head |= {"facts": wired.facts, "digest": wired.digest}
    to.send_bytes(json.dumps(head).encode())
    to.send_bytes(wired.weights if wired is not None else b"")


def receive(by: Connection) -> Told:
    """Receive one message."""
    head, weights = json.loads(by.recv_bytes()), by.recv_bytes()
    wired = Wired(weights, head["facts"], head["digest"]) if "facts" in head else None
    return head["kind"], wired, head["beside"]


def ask(address: str, kind: str, wired: Wired, beside: dict[str, Any]) -> Told:
    """Ask the worker, waiting until it is there; once more if it ended over the question.

    All it needs is in the question and on disk, so the answer of another start is the same.

    Raises:
        FedLeaseError: it is not there, or ended over the question again.
    """
    end, deaths = time.monotonic() + PATIENCE, 0
    there, dead, buried = None, None, 0.0
    while True:
        try:
            there = _bound(address)
            if there == dead and time.monotonic() < buried:
                raise ConnectionRefusedError(f"{address} is still that of a worker that ended")
            with Client(address, "AF_UNIX") as worker:
                send(worker, (kind, wired, beside))
                return receive(worker)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            if time.monotonic() > end:
                raise FedLeaseError(f"no worker of the site is there after {PATIENCE:g} s") from error
            time.sleep(0.2)
        except (EOFError, OSError) as error:
            deaths, end = deaths + 1, time.monotonic() + PATIENCE
            dead, buried = there, time.monotonic() + DYING
            if deaths == DEATHS:
                raise FedLeaseError(
                    f"the worker of the site ended {DEATHS} times over the question"
                ) from error


def _bound(address: str) -> tuple[int, int]:
    """What tells one worker's socket from the next one's at the same address."""
    found = os.stat(address)
    return found.st_ino, found.st_ctime_ns


def answer(address: str, handler: Handler) -> None:
    """Answer questions, one after the other, for ever."""
    Path(address).unlink(missing_ok=True)  # of a worker that was killed
    with Listener(address, "AF_UNIX") as listener:
        while True:
            try:
                with listener.accept() as asker:
                    kind, wired, beside = receive(asker)
                    if wired is not None:
                        send(asker, handler(kind, wired, beside))
            except (EOFError, OSError, ValueError, KeyError):
                continue  # whoever asked is gone; Flower asks again
