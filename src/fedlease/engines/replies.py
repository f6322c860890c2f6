"""What came of one question to several sites: messages, and why others are missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flwr.app import RecordDict

from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import ClientId, Message
from fedlease.engines.flower_messages import from_records
from fedlease.engines.flower_records import LACKS
from fedlease.engines.reports import Reports


@dataclass
class Replies:
    """Replies to one question, which is asked a second time of those who lack what it refers to.

    Attributes:
        reports: told of what sites say beside their answers.
        strict: whoever fails ends the run.
        messages: as they crossed, of those who answered, in the order they came.
        reasons: why there is no message of the others.
        lacking: who did not hold what the question refers to.
    """

    reports: Reports
    strict: bool = False
    messages: dict[ClientId, Message] = field(default_factory=dict)
    reasons: dict[ClientId, str] = field(default_factory=dict)
    lacking: list[ClientId] = field(default_factory=list)

    def arrived(self, client: ClientId, records: RecordDict) -> bool:
        """Read an answer, whatever it is; tell whether the client is to be sent all of the question now."""
        try:
            message, beside = from_records(records)
        except FedLeaseError as error:
            self.fail({client: str(error)})
            return False
        if LACKS not in beside:
            self.messages[client] = message
            self.reports.tell(client, beside)
        elif client in self.lacking:
            self.fail({client: "says it lacks what it was sent in full"})
        else:
            self.lacking = sorted((*self.lacking, client))
            return True
        return False

    def fail(self, failed: Mapping[ClientId, str]) -> None:
        """Note who gave no answer, and why.

        Raises:
            FedLeaseError: it is strict.
        """
        self.reasons |= failed
        if failed and self.strict:
            said = "; ".join(f"client {client} {why}" for client, why in sorted(failed.items()))
            raise FedLeaseError(f"task {self.reports.task}, round {self.reports.round}: {said}")
