"""What sites say of themselves when they are asked who they are, looked at before anything counts with it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import Fact

MOST_LABELS = 1000
"""Every site makes a head as large as the largest that one of them asks for."""

LONGEST = 200
"""Characters of a label, a hash or a path."""


def check_hello(said: Mapping[str, Fact]) -> None:
    """Check that what a site says is what `Worker.hello` says, in kind and in size.

    Raises:
        FedLeaseError: it is not; to be read after who said it.
    """
    for key in ("train_rows", "test_rows"):
        if not isinstance(count := said.get(key), int) or count < 0:
            raise FedLeaseError(f"says nothing of use about its {key}")
    if not isinstance(said.get("shared_test_rows"), bool | int):
        raise FedLeaseError("says nothing of use about its shared_test_rows")
    for key in ("rows", "model"):
        if not isinstance(text := said.get(key), str) or len(text) > LONGEST:
            raise FedLeaseError(f"says nothing of use about its {key}")
    try:
        labels = json.loads(str(said.get("labels")))
    except (ValueError, RecursionError) as error:
        raise FedLeaseError("says nothing of use about its labels") from error
    if not isinstance(labels, list) or not all(isinstance(one, str) for one in labels):
        raise FedLeaseError("says nothing of use about its labels")
    if len(labels) > MOST_LABELS or any(len(one) > LONGEST for one in labels):
        raise FedLeaseError(f"has more than {MOST_LABELS} labels, or one of more than {LONGEST} characters")
