"""The log of what left a site: whole lines, or none and no message."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import Message
from fedlease.deploy.sent import note


def test_a_disk_that_takes_a_part_is_given_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, content: real(file, bytes(content)[:7]))
    path = tmp_path / "state" / "sent.jsonl"
    for number in (1, 2):
        note(path, "toy", "train", number, Message({}, {"examples": 5}), {})
    assert [json.loads(line)["round"] for line in path.read_text().splitlines()] == [1, 2]


def test_a_disk_that_gets_full_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real, room = tmp_path / "sent.jsonl", os.write, [20]
    note(path, "toy", "train", 1, Message(), {})
    before = path.read_bytes()

    def write(file: int, content: bytes) -> int:
        taken = bytes(content)[: room[0]]
        room[0] -= len(taken)
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, taken)

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(FedLeaseError, match=r"cannot write .*sent\.jsonl: No space left on device"):
        note(path, "toy", "train", 2, Message(), {})
    assert path.read_bytes() == before
