"""What tests with real processes need around them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from fedlease.core.wired import Wired
from fedlease.deploy import pipe
from fedlease.deploy.site_config import read_site
from fedlease.deploy.worker import Worker


@pytest.fixture
def ended() -> Iterator[None]:
    """Whatever the test starts is gone after it: no process of its own, no open port."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    left = [c for c in psutil.Process().children(recursive=True) if c.pid not in before]
    assert not left


@pytest.fixture
def workers_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker answers in this process, made anew for every message: all it keeps must be on disk."""

    def ask(address: str, kind: str, wired: Wired, beside: dict[str, Any]) -> Any:
        return Worker(read_site(Path(address)))(kind, wired, beside)

    monkeypatch.setattr(pipe, "ask", ask)
