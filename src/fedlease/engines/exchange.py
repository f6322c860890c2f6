"""What every engine does with a message: do a client's task, count bytes, note who was left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedlease.core.protocols import Algorithm, ClientId, Message, Site
from fedlease.core.rounding import WireForm, apart, fed
from fedlease.core.weights import Weights, nbytes

SCORE = "score"
"""The task every engine answers for every method: the metrics of what `serve` and `deploy` give."""

FINISH = "finish"
"""The task that sites do after the last round: write down the model each uses from now on."""


def run_task(
    algorithm: Algorithm[Any], task: str, down: Message, kept: Weights, site: Site
) -> tuple[Message, Weights]:
    """Do one task at a client: the method's own, or `SCORE`."""
    if task == SCORE:
        return Message(facts=dict(site.score(algorithm.deploy(down, kept)))), kept
    return algorithm.tasks[task](down, kept, site)


def do_task(
    algorithm: Algorithm[Any], task: str, down: Message, kept: Weights, site: Site, wire: WireForm
) -> tuple[Message, Weights]:
    """Do one task at a client as `run_task` does, and pack what goes up as it crosses.

    What packing loses is made good in the client's next upload: it is among what the client keeps, and no
    method sees it.
    """
    own, lost = apart(kept)
    up, keeps = run_task(algorithm, task, down, own, site)
    sent, lost = fed(up, lost, wire)
    return sent, {**keeps, **lost}


@dataclass(frozen=True)
class LeftOut:
    """A client whose answer a round did without.

    Attributes:
        client, task: whose answer, to what.
        reason: why, to be read after the client's name: ``"did not answer in 60 s"``.
    """

    client: ClientId
    task: str
    reason: str


@dataclass
class Traffic:
    """What was exchanged: bytes by direction, client and part of the adapter, and who was left out.

    Models sent out only to be scored are counted under ``score``: a deployed client would already hold them.
    ``saved`` is by how much more would have gone out, down or to be scored, if clients held nothing.
    """

    up: dict[ClientId, dict[str, int]] = field(default_factory=dict)
    down: dict[ClientId, dict[str, int]] = field(default_factory=dict)
    score: dict[ClientId, dict[str, int]] = field(default_factory=dict)
    saved: dict[ClientId, dict[str, int]] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)

    def count(self, task: str, client: ClientId, down: Message, up: Message, full: Message) -> None:
        """Add one exchange: what went down and came up as it crossed, and ``full``, all there was to send."""
        into = self.score if task == SCORE else self.down
        went, whole = nbytes(down.weights), nbytes(full.weights)
        _add(into.setdefault(client, {}), went)
        _add(self.up.setdefault(client, {}), nbytes(up.weights))
        fewer = {kind: size - went.get(kind, 0) for kind, size in whole.items() if size > went.get(kind, 0)}
        _add(self.saved.setdefault(client, {}), fewer)

    def total(self) -> dict[str, dict[str, int]]:
        """Sum over clients: direction -> part -> bytes; ``saved`` only where something was."""
        totals: dict[str, dict[str, int]] = {}
        for direction in ("up", "down", "score", "saved"):
            totals[direction] = {}
            for sizes in getattr(self, direction).values():
                _add(totals[direction], sizes)
        if not totals["saved"]:
            del totals["saved"]
        return totals


def _add(into: dict[str, int], sizes: Mapping[str, int]) -> None:
    for kind, size in sizes.items():
        into[kind] = into.get(kind, 0) + size
