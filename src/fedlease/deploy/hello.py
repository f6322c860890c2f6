"""What sites say of themselves when they are asked who they are, looked at before anything counts with it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import Fact

MOST_LABELS = 1000
"""Every site makes a head as large as the largest that one of them asks for."""

LONGEST = 200
"""Characters of a label or a hash."""


def check_hello(said: Mapping[str, Fact]) -> None:
    """Check that what a site says is what `Worker.hello` says, in kind and in size.

    Raises:
        FedLeaseError: it is not; to be read after who said it.
    """
    fits = {
        "train_rows": _is_count,
        "test_rows": _is_count,
        "shared_test_rows": lambda value: isinstance(value, bool | int),
        "rows": _is_short,
        "model": _is_short,
        "labels": _are_labels,
    }
    for key, fit in fits.items():
        if not fit(said.get(key)):
            raise FedLeaseError(f"says nothing of use about its {key}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def _is_short(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST


def _are_labels(value: object) -> bool:
    try:
        labels = json.loads(str(value))
    except (ValueError, RecursionError):
        return False
    return isinstance(labels, list) and len(labels) <= MOST_LABELS and all(map(_is_short, labels))
