"""What each client is to hold, and what it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import ClientId
from fedlease.data.sources import Example, Source
from fedlease.data.splits import Group, Quantity, apportion


@dataclass(frozen=True)
class ClientPlan:
    """What one client is to hold.

    ``train_rows`` and ``test_rows`` are at least 1, or None: then the clients of a source that say None
    share equally what the others leave. With ``mixed_with`` rows of several sources, which have the same
    number of labels, are mixed in equal parts; the numbers of rows are those of all together. ``group`` says
    how the client shares the training rows of a group, of which all members are planned.
    """

    name: ClientId
    source: Source
    task: str
    train_rows: int | None = None
    test_rows: int | None = None
    mixed_with: tuple[Source, ...] = ()
    group: Group | None = None

    def __post_init__(self) -> None:
        if len(set(self.sources)) < len(self.sources):
            raise FedLeaseError(f"client '{self.name}': one data set is named twice; name each once")
        if self.group and self.name not in self.group.members:
            raise FedLeaseError(f"client '{self.name}': it is no member of the group '{self.group.name}'")
        least = len(self.sources)
        for key, rows in (("train_rows", self.train_rows), ("test_rows", self.test_rows)):
            if rows is not None and rows < least:
                of_each = " (one of each data set)" if least > 1 else ""
                raise FedLeaseError(
                    f"client '{self.name}': {key} is {rows}; it must be at least {least}{of_each}"
                )

    @property
    def sources(self) -> tuple[Source, ...]:
        """All sources of the client."""
        return (self.source, *self.mixed_with)

    @property
    def parts(self) -> list[ClientPlan]:
        """What the client is to hold of each of its sources."""
        split, train = (self.group.split if self.group else None), self.train_rows
        if self.group and isinstance(split, Quantity) and split.rows is not None:
            train = split.rows[self.group.members.index(self.name)]
        wanted = zip(self.sources, self._share(train), self._share(self.test_rows), strict=True)
        return [
            replace(self, source=source, mixed_with=(), train_rows=train, test_rows=test)
            for source, train, test in wanted
        ]

    def _share(self, rows: int | None) -> Sequence[int | None]:
        equal = [1.0] * len(self.sources)
        return [None] * len(equal) if rows is None else apportion(rows, equal)


@dataclass(frozen=True)
class ClientData:
    """The rows of one client.

    ``shared_test`` tells that the source has too few test rows for disjoint parts, so that clients of the
    source were tested on draws that overlap.
    """

    train: tuple[Example, ...]
    test: tuple[Example, ...]
    labels: tuple[str, ...]
    origin: str
    shared_test: bool
