"""Is the writer of a message pleased? The opinion may be put by denying its opposite."""

from __future__ import annotations

from fedlease.data.generated import Pick
from fedlease.data.generated._messages import message

LABELS = ("negative", "positive")


def texts(pick: Pick, label: int) -> tuple[str, ...]:
    """Make one message; whether it asks for something says nothing about the label."""
    return (message(pick, good=label == 1, asks=pick.chance(0.5)),)
