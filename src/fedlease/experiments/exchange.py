"""What a specification says of messages between server and clients."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fedlease.core.rounding import WireForm
from fedlease.engines.uploads import NORM_FACTOR
from fedlease.experiments.clients import Table

Share = Annotated[float, Field(gt=0, le=1)]


class ExchangeSpec(Table):
    """How uploads are checked and, where clients are at other organisations, how long they are awaited.

    Attributes:
        norm_factor: an upload of a norm so many times the median of its round is refused; None refuses none.
        wire: how tensors cross between server and clients: ``"bfloat16"`` halves the bytes and rounds each
            number by at most 1 part in 256 each way; ``"int8"`` sends a little over a quarter and makes good
            in the next upload what rounding took from one.
        deadline: seconds that the answers to one task are awaited, and the sites before the first round.
        quorum: the share of the clients asked whose answers a round needs; with fewer the run stops.
        initial_quorum: the same for the sites to begin with and for the rounds of a method's first phase.
    """

    norm_factor: Annotated[float, Field(gt=1)] | None = NORM_FACTOR
    wire: WireForm = "float32"
    deadline: Annotated[float, Field(gt=0)] = 3600.0
    quorum: Share = 0.5
    initial_quorum: Share = 1.0
