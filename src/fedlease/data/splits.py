"""How a group's training rows are split among its clients: by labels, by numbers of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor
from typing import ClassVar, Literal, TypeAlias

from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import ClientId


@dataclass(frozen=True)
class Dirichlet:
    """Every label's rows go to the clients in shares from a Dirichlet distribution.

    The clients share the rows of the group, none left over: how many a client has follows from the draw.

    Attributes:
        alpha: the same for every client; the smaller, the fewer clients hold most of a label's rows.
        min_rows: the draw is repeated until every client has so many, of each of its data sets.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    alpha: float
    min_rows: int = 10
    by: Literal["dirichlet"] = "dirichlet"

    def __post_init__(self) -> None:
        _within("alpha", self.alpha, 1e-3, 1e6)
        _within("min_rows", self.min_rows, 1)

    def check(self, clients: int) -> None:
        """Nothing to refuse: any number of clients will do."""


@dataclass(frozen=True)
class Classes:
    """Every client has its number of rows with the share of each label that is said here.

    A label's rows are those of the group and, when they run out, rows of the source that no client has.

    Attributes:
        shares: for each client in order one share for each label in order; they add up to 1.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    shares: tuple[tuple[float, ...], ...]
    by: Literal["classes"] = "classes"

    def __post_init__(self) -> None:
        for number, shares in enumerate(self.shares):
            if not all(0 <= share <= 1 for share in shares) or not abs(sum(shares) - 1) < 1e-6:
                told = ", ".join(f"{share:g}" for share in shares)
                raise FedLeaseError(f"shares.{number} is {told}; it must be numbers from 0 that add up to 1")

    def check(self, clients: int) -> None:
        """Refuse a number of clients that is not the number of rows of shares."""
        if len(self.shares) != clients:
            raise FedLeaseError(f"shares has {len(self.shares)} entries for {clients} client(s)")


@dataclass(frozen=True)
class Quantity:
    """Clients have different numbers of rows; say one of ``alpha``, ``sigma`` and ``rows``.

    Attributes:
        alpha: the group's rows are shared out by a draw from a Dirichlet distribution.
        sigma: the same by a draw from a lognormal distribution with this deviation of the logarithm.
        rows: how many rows each client has, in order.
        min_rows: what a draw leaves every client of each of its data sets; it divides the others.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    alpha: float | None = None
    sigma: float | None = None
    rows: tuple[int, ...] | None = None
    min_rows: int = 10
    by: Literal["quantity"] = "quantity"

    def __post_init__(self) -> None:
        given = [key for key in ("alpha", "sigma", "rows") if getattr(self, key) is not None]
        if len(given) != 1:
            told = " and ".join(given) or "none"
            raise FedLeaseError(f"say the numbers of rows by one of alpha, sigma or rows ({told} given)")
        if self.alpha is not None:
            _within("alpha", self.alpha, 1e-3, 1e6)
        if self.sigma is not None:
            _within("sigma", self.sigma, 1e-3, 10)
        _within("min_rows", self.min_rows, 1)
        for number, rows in enumerate(self.rows or ()):
            _within(f"rows.{number}", rows, 1)

    def check(self, clients: int) -> None:
        """Refuse a number of clients that is not the number of entries in ``rows``."""
        if self.rows is not None and len(self.rows) != clients:
            raise FedLeaseError(f"rows has {len(self.rows)} entries for {clients} client(s)")


Split: TypeAlias = Dirichlet | Classes | Quantity
SPLITS: Mapping[str, type[Split]] = {kind.by: kind for kind in (Dirichlet, Classes, Quantity)}
"""Every kind of split by its name."""


@dataclass(frozen=True)
class Group:
    """Clients that share their training rows by a split.

    Attributes:
        name: seeds the draw.
        members: the clients; shares and numbers of rows are theirs in this order.
    """

    name: str
    members: tuple[ClientId, ...]
    split: Split

    def __post_init__(self) -> None:
        try:
            self.split.check(len(self.members))
        except FedLeaseError as error:
            raise FedLeaseError(f"clients '{self.name}': split: {error}") from None


def apportion(total: int, weights: Sequence[float]) -> list[int]:
    """Return whole numbers in proportion to the weights that add up to the total, by largest remainders."""
    exact = [total * weight / sum(weights) for weight in weights]
    whole = [floor(number) for number in exact]
    order = sorted(range(len(exact)), key=lambda index: whole[index] - exact[index])
    for index in order[: total - sum(whole)]:
        whole[index] += 1
    return whole


def _within(key: str, value: float, least: float, most: float | None = None) -> None:
    if not (value >= least and (most is None or value <= most)):
        top = "" if most is None else f" and at most {most:g}"
        raise FedLeaseError(f"{key} is {value:g}; it must be at least {least:g}{top}")
