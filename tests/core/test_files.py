"""Atomic writes: what is flushed to disk, in which order."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from fedlease.core.files import write_bytes


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_and_then_its_name_are_flushed(
    durable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[str, bool]] = []

    def noted(number: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(number).st_mode) else "file"
        flushed.append((kind, (tmp_path / "a").exists()))

    monkeypatch.setattr("os.fsync", noted)
    write_bytes(tmp_path / "a", b"content", durable=durable)
    assert flushed == ([("file", False), ("folder", True)] if durable else [])
    assert (tmp_path / "a").read_bytes() == b"content"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
