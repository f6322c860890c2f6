"""Clients at other organisations, reached over a Flower Grid."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from flwr.app import RecordDict

from fedlease.core.errors import FedLeaseError
from fedlease.core.progress import Watch, unwatched
from fedlease.core.protocols import Algorithm, ClientId, Message
from fedlease.core.rounding import WireForm, unpacked
from fedlease.core.weights import Weights
from fedlease.engines.exchange import FINISH, SCORE, LeftOut, Traffic
from fedlease.engines.flower_messages import to_records
from fedlease.engines.mailbox import Address, Mailbox
from fedlease.engines.outgoing import Outgoing, Parcel
from fedlease.engines.replies import Replies
from fedlease.engines.reports import Reports
from fedlease.engines.uploads import Uploads

log = logging.getLogger(__name__)

TASK = "train.task"
"""Flower's message type for a task of a method; which one is said beside the message."""

VERSION = "kept.version"
"""The name under which a checkpoint holds which version of its memory a client is at, int64 [3]."""


@dataclass(frozen=True)
class Terms:
    """When an exchange is over.

    Attributes:
        deadline: seconds to wait for answers.
        quorum: the share of the sites to be asked whose answers a round needs to count.
        initial_quorum: the same in the first rounds, in which a method gets to know the sites.
        strict: whoever fails ends the run, as in one process.
    """

    deadline: float = 3600.0
    quorum: float = 0.5
    initial_quorum: float = 1.0
    strict: bool = False


class Whereabouts(Protocol):
    """Who the clients are and where they are now; see `Roster`."""

    @property
    def mail(self) -> Mailbox:
        """To ask them by."""

    @property
    def expected(self) -> Collection[ClientId]:
        """The names of all."""

    def where(self) -> Mapping[ClientId, Address]:
        """Return every client that is known to be there now, sorted; takes no time."""

    def settled(self) -> Mapping[ClientId, Address]:
        """Return the same, after whoever just came has said who it is."""


@dataclass
class Flower:
    """The `Clients` of a federation of sites: an exchange is over when all answered or its time is up.

    Who is late, fails, or sends what cannot be used is left out and named. What a client keeps is on its
    site's disk, in versions: each question says which version the answer is to start from, so that an answer
    that was not used leaves no trace, and a server that goes on from a checkpoint takes sites back with it.

    Attributes:
        algorithm: the method, for how long its first phase is.
        roster: where the sites are.
        uploads: what their answers must be.
        terms: when an exchange is over.
        about: what goes beside every message: the run and what the sites need to know of it.
        session: a number that no earlier start of this run had.
        kept: client -> `VERSION`.
        holds: the digests of what each site holds of what it was sent, in that version.
        wire: how tensors cross.
        watch: told what sites report of their work.
        in_full: all is sent, and counted as if it was not where sites would hold it; for simulations.
    """

    algorithm: Algorithm[Any]
    roster: Whereabouts
    uploads: Uploads
    terms: Terms
    about: Mapping[str, str | float]
    session: int = 1
    kept: dict[ClientId, Weights] = field(default_factory=dict)
    holds: dict[ClientId, Weights] = field(default_factory=dict)
    wire: WireForm = "float32"
    watch: Watch = unwatched
    in_full: bool = False
    traffic: Traffic = field(default_factory=Traffic)
    _exchanges: int = 0
    _round: int = 0
    _answered: dict[ClientId, bool] = field(default_factory=dict)
    _safe: dict[ClientId, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._safe = {client: self._version(client) for client in self.kept}

    @property
    def ids(self) -> tuple[ClientId, ...]:
        """The sites that are there now."""
        return tuple(self.roster.settled())

    def each(self, task: str, down: Mapping[ClientId, Message]) -> dict[ClientId, Message]:
        """Ask the sites and return the answers that can be used, sorted by client.

        Raises:
            FedLeaseError: fewer answers than the quorum, or with strict terms one that failed; the run goes
                on from its last checkpoint.
        """
        self._exchanges += 1
        number = max((int(m.facts.get("round", 0)) for m in down.values()), default=0)
        version = (number, self.session, self._exchanges)
        outgoing = Outgoing(self.wire)
        parcels = {
            client: outgoing.parcel(message, self.holds.get(client, {}))
            for client, message in sorted(down.items())
        }
        came = self._exchange(task, version, parcels)
        for client in came.lacking:
            self.holds.pop(client, None)
        up = {client: unpacked(message, self.wire) for client, message in sorted(came.messages.items())}
        answers, refused = self.uploads.check(task, down, up)
        reasons = came.reasons | refused
        reasons |= dict.fromkeys(self._absent(task, number, down), "cannot be reached")
        self.traffic.left_out += [LeftOut(client, task, why) for client, why in sorted(reasons.items())]
        if task not in (SCORE, FINISH):
            self.kept |= {client: {VERSION: torch.tensor(version)} for client in answers}
            for client in answers:
                self.holds[client] = {**self.holds.get(client, {}), **parcels[client].digests}
            self._demand(task, number, answers, reasons)
        return answers

    def _exchange(self, task: str, version: tuple[int, ...], parcels: Mapping[ClientId, Parcel]) -> Replies:
        """Send what sites do not hold, and all of it to those who say that they lost what they held."""
        came = Replies(Reports(self.watch, task, version[0]), self.terms.strict)

        def question(client: ClientId, message: Message) -> RecordDict:
            return to_records(message, self._beside(task, client, version))

        def arrived(client: ClientId, records: RecordDict) -> RecordDict | None:
            if not came.arrived(client, records):
                return None
            log.warning("what client %s holds is gone, so it is sent all of it", client)
            return question(client, parcels[client].full)

        questions = {c: question(c, p.full if self.in_full else p.sent) for c, p in parcels.items()}
        mail, where = self.roster.mail, self.roster.where
        came.fail(mail.ask(questions, where, TASK, str(version[0]), self.terms.deadline, arrived).failed)
        for client, parcel in parcels.items():
            lacked = client in came.lacking
            if lacked:
                self.traffic.count(task, client, parcel.sent, Message(), parcel.sent)
            if client in came.messages:
                went = parcel.full if lacked else parcel.sent
                self.traffic.count(task, client, went, came.messages[client], parcel.full)
        return came

    def _absent(self, task: str, number: int, down: Mapping[ClientId, Message]) -> list[ClientId]:
        """Who was not asked for not being there; once where a round has several tasks."""
        if number != self._round:
            self._round, self._answered = number, {}
        there = {*down, *self.roster.where(), *(() if task == SCORE else self._answered)}
        return [client for client in self.roster.expected if client not in there]

    def _beside(self, task: str, client: ClientId, version: tuple[int, ...]) -> dict[str, str | float]:
        """What a site needs to know beside the message."""
        return {
            **self.about,
            "client": client,
            "task": task,
            "kept": self._version(client),
            "safe": self._safe.get(client, ""),
            "next": word(version),
        }

    def _version(self, client: ClientId) -> str:
        """The version of its memory that a client is at; empty where it has none."""
        return word(self.kept[client][VERSION].tolist()) if client in self.kept else ""

    def _demand(
        self, task: str, number: int, answers: Collection[ClientId], reasons: Mapping[ClientId, str]
    ) -> None:
        """Refuse a round that too few of those who were to be asked take part in.

        Of a site that is asked more than once in a round the last answer counts. So where a method asks some
        sites for something of their own, as newcomers are, their silence weighs no more than anybody's.
        """
        first = number <= getattr(self.algorithm, "warmup_rounds", 1)
        key = "initial_quorum" if first else "quorum"
        self._answered |= dict.fromkeys(answers, True) | dict.fromkeys(reasons, False)
        asked, came = len(self._answered), sum(self._answered.values())
        needed = math.ceil(getattr(self.terms, key) * asked)
        if came < needed:
            said = "; ".join(f"{client} {why}" for client, why in sorted(reasons.items()))
            raise FedLeaseError(
                f"task {task}, round {number}: {came} of {asked} sites gave an answer that can be used, "
                f"and {needed} are needed (exchange.{key}): {said}"
            )

    def take_traffic(self) -> Traffic:
        """Return what was counted so far and start again at zero.

        The round loop does so at the end of a round and makes its checkpoint before the next: sites may then
        forget what is older than the checkpoint.
        """
        self._safe = {client: self._version(client) for client in self.kept}
        taken, self.traffic = self.traffic, Traffic()
        return taken


def word(version: tuple[int, ...] | list[int]) -> str:
    """The name of a version: round, session, exchange."""
    number, session, exchange = version
    return f"round-{number:06d}.{session}.{exchange}"
