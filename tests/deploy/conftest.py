"""What tests with real processes need around them."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest


@pytest.fixture
def ended() -> Iterator[None]:
    """Whatever the test starts is gone after it: no process of its own, no open port."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    left = [c for c in psutil.Process().children(recursive=True) if c.pid not in before]
    assert not left
