"""Replies of a Flower Grid, without waiting for those that are there in part."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass, field

from flwr.app import Message
from flwr.serverapp import Grid

MOST = 32
"""So many looks may be under way at a time; then nobody looks until one of them ends."""


class _Look(threading.Thread):
    """One look for replies, at its own pace."""

    def __init__(self, grid: Grid, numbers: Collection[str]) -> None:
        super().__init__(name="pull", daemon=True)  # the server's end waits for none
        self._grid, self._numbers = grid, list(numbers)
        self.replies: list[Message] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.replies = list(self._grid.pull_messages(self._numbers))
        except BaseException as error:
            self.error = error


@dataclass
class Pulls:
    """Looks for replies; a look that takes long goes on beside the next ones.

    Flower hands a reply over when its first part has come, and its ``pull_messages`` then waits for the rest,
    for minutes where the site died over sending it (flwr 1.41: until nothing has come for 180 s). Meanwhile
    it gives nobody else's reply, nor back. A reply that one look waits for is not given to another.

    Attributes:
        grid: of the run.
        patience: seconds that one look is waited for; None waits until it ends.
    """

    grid: Grid
    patience: float | None
    _under_way: list[_Look] = field(default_factory=list)

    def take(self, numbers: Collection[str]) -> list[Message]:
        """Give the replies to these messages that are whole, and those that earlier looks have got by now.

        Raises:
            Exception: what Flower raised in a look.
        """
        if numbers and len(self._under_way) < MOST:
            self._under_way.append(_Look(self.grid, numbers))
            self._under_way[-1].start()
        if self._under_way:
            self._under_way[-1].join(self.patience)
        ended = [look for look in self._under_way if not look.is_alive()]
        self._under_way = [look for look in self._under_way if look not in ended]
        for look in ended:
            if look.error is not None:
                raise look.error
        return [reply for look in ended for reply in look.replies]
