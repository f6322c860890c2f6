"""What tests of trackers share: what one should have been told."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from fedlease.experiments.tracking.numbers import allocated, routed, values

Scalars = dict[str, dict[int, float]]


def needs(name: str) -> pytest.MarkDecorator:
    """Skip where a tracker is not installed."""
    why = f"{name} is not installed: pip install 'fedlease[{name}]'"
    return pytest.mark.skipif(find_spec(name) is None, reason=why)


def told(record: dict[str, Any]) -> Scalars:
    """What a tracker should have been told of a record: name -> round -> number."""
    found: Scalars = {}
    for entry in record["rounds"]:
        numbers = values(entry)
        if entry["round"] >= record["spec"]["method"]["warmup_rounds"]:
            numbers |= allocated(record)
        if entry["round"] == len(record["rounds"]):
            numbers |= routed(record)
        for name, number in numbers.items():
            found.setdefault(name, {})[entry["round"]] = number
    return found


def same(found: Scalars, wanted: Scalars, rel: float) -> None:
    assert found.keys() == wanted.keys()
    for name, steps in wanted.items():
        assert found[name] == pytest.approx(steps, rel=rel), name
