"""Clients that come when experts are allocated already: they train alone, then each is given an expert."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial

from fedlease.algorithms.alone import Each, WithLater
from fedlease.algorithms.steps import to_all
from fedlease.allocation import Allocation, Centre, join
from fedlease.core.protocols import ClientId, Clients
from fedlease.core.weights import Weights


@dataclass(frozen=True)
class Arrivals:
    """What the server knows of newcomers.

    Attributes:
        centres: of the experts when they were allocated; a newcomer gets the one it is nearest to.
        joining: who has no expert yet, and how often each has trained alone so far.
    """

    centres: tuple[Centre, ...] = ()
    joining: Mapping[ClientId, int] = field(default_factory=dict)


def take_in(
    allocation: Allocation,
    arrivals: Arrivals,
    late: Collection[ClientId],
    clients: Clients,
    start: Weights,
    *,
    round: int,
    alone: int,
) -> tuple[Allocation, Arrivals]:
    """Have clients without an expert do the task ``warm_up``, and give one to each that uploads its adapter.

    Args:
        allocation: so far.
        arrivals: so far.
        late: the clients that are there and have no expert.
        clients: to ask.
        start: the adapter that all began with.
        round: the number of this round.
        alone: how many rounds a client trains alone before it uploads.
    """
    trained = {client: arrivals.joining.get(client, 0) for client in late}
    for upload in (False, True):  # asked apart, since answers to one question are all alike
        asked = [client for client in late if (trained[client] + 1 >= alone) is upload]
        if not asked:
            continue
        down = to_all(asked, {}, round, once=start, met=arrivals.joining, upload=upload)
        answers = clients.each("warm_up", down)
        joining = {**arrivals.joining, **{client: trained[client] + 1 for client in answers}}
        if upload:
            came = Each(answers, partial(WithLater, distance=allocation.distance))
            allocation = join(allocation, arrivals.centres, came)
            joining = {client: times for client, times in joining.items() if client not in came}
        arrivals = Arrivals(arrivals.centres, dict(sorted(joining.items())))
    return allocation, arrivals
