"""What Flower carries: a message of ours, or what went wrong, as records of a Flower message."""

from __future__ import annotations

from collections.abc import Mapping

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import Message
from fedlease.core.wire import Wired, from_wire, to_wire

FAILED = "failed"
"""The key under which a site says why it gives no answer."""


def to_records(message: Message, beside: Mapping[str, str | float] | None = None) -> RecordDict:
    """Pack a message, with plain values ``beside`` it that no method sees.

    The tensors travel as one array of safetensors bytes, which Flower cuts in pieces where it is large.
    """
    wired = to_wire(message)
    array = Array("uint8", (len(wired.weights),), "safetensors", wired.weights)
    body = ConfigRecord({"facts": wired.facts, "digest": wired.digest})
    return RecordDict(
        {"weights": ArrayRecord({"all": array}), "body": body, "beside": ConfigRecord(dict(beside or {}))}
    )


def failure(reason: str) -> RecordDict:
    """Pack the reason why there is no answer."""
    return RecordDict({"beside": ConfigRecord({FAILED: reason})})


def from_records(records: RecordDict) -> tuple[Message, dict[str, str | float]]:
    """Unpack what `to_records` packed: the message, and the values beside it.

    Raises:
        FedLeaseError: nothing of ours, damaged, or a `failure`; to be read after who sent it.
    """
    try:
        beside = {
            key: value
            for key, value in records.config_records["beside"].items()
            if isinstance(value, str | int | float)
        }
        if FAILED in beside:
            raise FedLeaseError(f"failed: {beside[FAILED]}")
        body, array = records.config_records["body"], records.array_records["weights"]["all"]
        wired = Wired(bytes(array.data), str(body["facts"]), str(body["digest"]))
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise FedLeaseError("sent what is no message of fedlease") from error
    return from_wire(wired), beside
