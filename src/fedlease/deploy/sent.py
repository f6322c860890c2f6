"""The log of all that left a site: a line of JSON for every answer, added before it goes, never changed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import Message
from fedlease.core.wire import to_wire


def describe(message: Message) -> dict[str, Any]:
    """Return what a message holds: every tensor with its shape, dtype and bytes, every fact, a digest."""
    wired = to_wire(message)
    tensors = {
        name: {
            "shape": list(tensor.shape),
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "bytes": tensor.numel() * tensor.element_size(),
        }
        for name, tensor in message.weights.items()
    }
    return {
        "tensors": tensors,
        "facts": dict(message.facts),
        "bytes": len(wired.weights) + len(wired.facts.encode()),
        "digest": wired.digest,
    }


def note(
    path: Path, run: str, task: str, round: int, message: Message | None, beside: Mapping[str, Any]
) -> None:
    """Add a line for an answer that is about to be sent, and see it on the disk first.

    Args:
        path: of the log.
        run, task, round: what is answered.
        message: what is sent; None where the site only says that it failed.
        beside: the values that go with it.

    Raises:
        FedLeaseError: it cannot be written; then nothing of it is there, and the message must not go.
    """
    line = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": run,
        "task": task,
        "round": round,
        **({} if message is None else describe(message)),
        "beside": dict(beside),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _add(path, (json.dumps(line) + "\n").encode())
    except OSError as error:
        raise FedLeaseError(f"cannot write {path}: {error.strerror}") from error


def _add(path: Path, content: bytes) -> None:
    """Add to the end of a file, all of it or nothing: of a full disk a write may take a part alone."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        before, rest = os.fstat(file).st_size, memoryview(content)
        try:
            while rest:
                rest = rest[os.write(file, rest) :]
            os.fsync(file)
        except OSError:
            os.ftruncate(file, before)
            raise
    finally:
        os.close(file)
