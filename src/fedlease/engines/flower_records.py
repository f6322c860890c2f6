"""What Flower carries: the bytes of a message, or what went wrong, as records of a Flower message.

Every message of the server starts a process at a site, so nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fedlease.core.errors import FedLeaseError
from fedlease.core.wired import Wired

FAILED = "failed"
"""The key under which a site says why it gives no answer."""

LACKS = "lacks"
"""Beside an empty answer: the site does not hold what the question refers to, and is to be sent all of it."""

MOST_WORDS = 300
"""Characters; no more is told of what a site says went wrong."""


class FailedError(FedLeaseError):
    """A site says that it gives no answer, and why."""


Beside = Mapping[str, str | int | float]
"""Plain values that go with a message and that no method sees."""


def pack(wired: Wired, beside: Beside) -> RecordDict:
    """Put a message's bytes in records.

    The tensors travel as one array, which Flower cuts in pieces where it is large.
    """
    array = Array("uint8", (len(wired.weights),), "safetensors", wired.weights)
    body = ConfigRecord({"facts": wired.facts, "digest": wired.digest})
    return RecordDict(
        {"weights": ArrayRecord({"all": array}), "body": body, "beside": ConfigRecord(dict(beside))}
    )


def one_line(text: str) -> str:
    """What a site says, fit for a line of a log and of a record."""
    return " ".join(text.split())[:MOST_WORDS]


def failure(reason: str) -> RecordDict:
    """Put the reason why there is no answer in records."""
    return RecordDict({"beside": ConfigRecord({FAILED: reason})})


def unpack(records: RecordDict) -> tuple[Wired, dict[str, str | int | float]]:
    """Take out what `pack` put in: a message's bytes, and the values beside it.

    Raises:
        FedLeaseError: nothing of ours, or a `failure`; to be read after who sent it.
    """
    try:
        beside = {
            key: value
            for key, value in records.config_records["beside"].items()
            if isinstance(value, str | int | float)
        }
        if FAILED in beside:
            raise FailedError(f"failed: {one_line(str(beside[FAILED]))}")
        body, array = records.config_records["body"], records.array_records["weights"]["all"]
        return Wired(bytes(array.data), str(body["facts"]), str(body["digest"])), beside
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise FedLeaseError("sent what is no message of fedlease") from error
