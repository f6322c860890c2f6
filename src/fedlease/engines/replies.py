"""What came of one question to several sites: messages, what is beside them, and why others are missing."""

from __future__ import annotations

from dataclasses import dataclass, field

from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import ClientId, Message
from fedlease.engines.flower_messages import from_records
from fedlease.engines.flower_records import LACKS, Beside
from fedlease.engines.mailbox import Answers


@dataclass(frozen=True)
class Replies:
    """Replies to one question.

    Attributes:
        messages: as they crossed, of those who answered.
        reports: what each of them said beside it.
        reasons: why there is no message of the others.
        lacking: who did not hold what the question refers to.
    """

    messages: dict[ClientId, Message] = field(default_factory=dict)
    reports: dict[ClientId, Beside] = field(default_factory=dict)
    reasons: dict[ClientId, str] = field(default_factory=dict)
    lacking: tuple[ClientId, ...] = ()

    @classmethod
    def read(cls, came: Answers) -> Replies:
        """Read what came, whatever it is."""
        messages, reports = dict[ClientId, Message](), dict[ClientId, Beside]()
        reasons, lacking = dict(came.failed), list[ClientId]()
        for client, records in sorted(came.records.items()):
            try:
                message, beside = from_records(records)
            except FedLeaseError as error:
                reasons[client] = str(error)
                continue
            if LACKS in beside:
                lacking.append(client)
            else:
                messages[client], reports[client] = message, beside
        return cls(messages, reports, reasons, tuple(lacking))

    def then(self, again: Replies) -> Replies:
        """These with those to the same question, sent in full to whoever was lacking something."""
        still = dict.fromkeys(again.lacking, "says it lacks what it was sent in full")
        return Replies(
            dict(sorted({**self.messages, **again.messages}.items())),
            dict(sorted({**self.reports, **again.reports}.items())),
            {**self.reasons, **again.reasons, **still},
            self.lacking,
        )
