"""A message of ours as records of a Flower message, and back."""

from __future__ import annotations

from flwr.app import RecordDict

from fedlease.core.protocols import Message
from fedlease.core.wire import from_wire, to_wire
from fedlease.engines.flower_records import Beside, pack, unpack


def to_records(message: Message, beside: Beside | None = None) -> RecordDict:
    """Pack a message, with plain values beside it."""
    return pack(to_wire(message), beside or {})


def from_records(records: RecordDict) -> tuple[Message, dict[str, str | int | float]]:
    """Unpack a message, and the values beside it.

    Raises:
        FedLeaseError: nothing of ours, damaged, or a failure; to be read after who sent it.
    """
    wired, beside = unpack(records)
    return from_wire(wired), beside
