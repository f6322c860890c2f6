"""What a specification says of messages between server and clients."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fedlease.engines.uploads import NORM_FACTOR
from fedlease.experiments.clients import Table


class ExchangeSpec(Table):
    """How uploads are checked.

    Attributes:
        norm_factor: an upload of a norm so many times the median of its round is refused; None refuses none.
    """

    norm_factor: Annotated[float, Field(gt=1)] | None = NORM_FACTOR
