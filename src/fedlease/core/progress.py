"""What a site tells whoever watches while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fedlease.core.protocols import ClientId


@dataclass(frozen=True)
class Progress:
    """One step of a client's work.

    Attributes:
        client: who works.
        round: in which round; 0 where there is none.
        purpose: ``"score"``, ``"loss"``, ``"usage"`` (which experts rows use), or why it trains: ``"train"``,
            ``"warm-up"``, ...
        rows: rows done in this step.
        done, total: rows done and to do in this piece of work.
        loss: mean training loss of the piece so far; None where nothing is trained.
        seconds: computing time of this step.
        reused: seconds that an earlier run spent on what this one only read; see `remembered`.
    """

    client: ClientId
    round: int
    purpose: str
    rows: int
    done: int
    total: int
    loss: float | None
    seconds: float
    reused: float = 0.0


Watch = Callable[[Progress], None]


def unwatched(step: Progress) -> None:
    """Tell nobody."""
