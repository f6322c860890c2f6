"""Which site is behind which node of a Flower Grid: sites have names, nodes come and go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from flwr.app import RecordDict

from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import ClientId, Fact, Message
from fedlease.engines.flower_messages import from_records, to_records
from fedlease.engines.flower_records import FailedError
from fedlease.engines.mailbox import Address, Asked, Mailbox

log = logging.getLogger(__name__)

HELLO = "query.hello"
"""Flower's message type for: who are you, and what do you hold? A node answers with its site's facts."""

NAME = "client"
"""The fact in which a site says its name."""


@dataclass
class Roster:
    """Asks every node that appears who it is, and knows from then on where a site is.

    Looking takes no time, for answers of others lie waiting meanwhile: what nodes say is taken with a later
    look, and who says nothing is asked again and again.

    A name that the node's key was registered under decides; a site that says another one is turned away. Of
    two nodes of one name the one that came last counts: a site that moved. So without registered keys
    anybody who reaches the server can be any site.

    Who fails to say who it is, is asked again later; who is turned away, when its node was started again.

    Attributes:
        mail: to ask by.
        expected: the names of all sites.
        about: what nodes are told with the question.
        deadline: seconds a node has to say who it is; then nobody waits for it, and it is asked again.
        check: raises `FedLeaseError` over facts that nothing can be done with.
        must: what sites must say of themselves: client -> fact -> value; ``""`` is for all of them.
        facts: what each site said of itself when it was last asked.
        _known: who is where; None for a node that was turned away.
        _again: when a node that is not known is asked next.
        _late: who had its time to answer, so that `settled` waits no longer.
        _why: what stands against nodes that are there and that are no site of ours by now.
    """

    mail: Mailbox
    expected: Collection[ClientId]
    about: Mapping[str, str | float]
    deadline: float
    check: Callable[[Mapping[str, Fact]], None] = lambda _: None
    must: dict[ClientId, dict[str, Fact]] = field(default_factory=dict)
    facts: dict[ClientId, dict[str, Fact]] = field(default_factory=dict)
    _known: dict[Address, ClientId | None] = field(default_factory=dict)
    _again: dict[str, float] = field(default_factory=dict)
    _late: set[str] = field(default_factory=set)
    _why: dict[Address, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._asked = Asked(self.mail, {}, HELLO)

    def settled(self) -> dict[ClientId, Address]:
        """Return what `where` does, after nodes that are new have said who they are or had the time to."""
        there = self.where()
        while set(self._asked.waiting()) - self._late:
            self.mail.clock.sleep(self.mail.every)
            there = self.where()
        return there

    def where(self) -> dict[ClientId, Address]:
        """Return every site that is known to be there now, sorted; asks nodes that are new."""
        nodes = {Address(n.node_id, n.last_activated_at): n for n in self.mail.grid.get_nodes()}
        self._ask(nodes)
        there: dict[ClientId, Address] = {}
        for place in sorted(nodes, key=lambda place: (place.since, place.node)):
            client = self._known.get(place)
            if client is not None:
                there[client] = place
        return dict(sorted(there.items()))

    def _ask(self, nodes: Mapping[Address, Any]) -> None:
        """Ask nodes who they are, and take the answers that are there; one that came back is another one."""
        asked, now = self._asked, self.mail.clock.monotonic()
        new = {f"{place.node}@{place.since}": place for place in nodes if place not in self._known}
        self._why = {place: why for place, why in self._why.items() if place in nodes}
        for key in set(self._again) - set(new):  # known now, or gone
            asked.forget(key)
            del self._again[key]
            self._late.discard(key)
        for key in new:
            if now < self._again.get(key, now):
                continue
            if key not in asked.questions:
                asked.questions[key] = to_records(Message(), self.about)
            else:
                log.warning("node %s did not say in %g s who it is: it is asked again", key, self.deadline)
                self._late.add(key)
                asked.again(key)
            self._again[key] = now + self.deadline
        asked.send(new, self.deadline)
        asked.receive()
        for key, place in sorted(new.items()):
            why = asked.answers.failed.get(key)
            if key in asked.answers.records:
                try:
                    self._known[place] = self._introduce(nodes[place], asked.answers.records[key])
                    self._why.pop(place, None)
                except FailedError as error:
                    why = str(error)
                except FedLeaseError as error:
                    self._known[place], self._why[place] = None, str(error)
                    log.warning("node %s is turned away: it %s", place.node, error)
            if why is not None:
                log.warning("node %s did not say who it is: it %s; it is asked again later", key, why)
                self._why[place] = why
                asked.forget(key)

    def _introduce(self, node: Any, records: RecordDict) -> ClientId:
        """Take down what a node says of itself.

        Raises:
            FailedError: it says that it failed.
            FedLeaseError: it is no site of this federation, or not as it was; to be read after who it is.
        """
        said, _ = from_records(records)
        name = str(said.facts.get(NAME, ""))
        if node.name and node.name != name:
            raise FedLeaseError(f"says it is {name!r}, and its key is registered for {node.name!r}")
        if name not in self.expected:
            raise FedLeaseError(f"says it is {name!r}, which is no client of this federation")
        for key, value in {**self.must.get("", {}), **self.must.get(name, {})}.items():
            if said.facts.get(key) != value:
                raise FedLeaseError(f"is {name} and has another {key} than the run began with")
        self.check(said.facts)
        self.facts[name] = dict(said.facts)
        log.info("site %s is there", name)
        return name

    def gather(self, quorum: int, deadline: float) -> None:
        """Wait until all sites are there, or at least ``quorum`` of them when ``deadline`` seconds are over.

        Raises:
            FedLeaseError: fewer are there by then; they are named.
        """
        clock = self.mail.clock
        end = clock.monotonic() + deadline
        while len(there := self.where()) < len(self.expected) and clock.monotonic() < end:
            clock.sleep(self.mail.every)
        if len(there) < quorum:
            missing = ", ".join(sorted(set(self.expected) - set(there)))
            said = "".join(f"; node {place.node} {why}" for place, why in sorted(self._why.items(), key=str))
            raise FedLeaseError(
                f"{len(there)} of {len(self.expected)} sites are there after {deadline:g} s, and {quorum} "
                f"are needed (exchange.initial_quorum); missing: {missing}{said}"
            )
