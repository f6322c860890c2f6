"""Does the writer of a message ask for something, or only report?"""

from __future__ import annotations

from fedlease.data.generated import Pick
from fedlease.data.generated._messages import message

LABELS = ("report", "request")


def texts(pick: Pick, label: int) -> tuple[str, ...]:
    """Make one message; whether its writer is pleased says nothing about the label."""
    return (message(pick, good=pick.chance(0.5), asks=label == 1),)
