"""Replies of a Flower Grid, without waiting for those that are there in part."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from flwr.app import Message
from flwr.serverapp import Grid
from google.protobuf.message import DecodeError

MOST = 32
"""So many looks may be under way at a time; then nobody looks until one of them ends."""

UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError, DecodeError)
"""What Flower 1.41 raises over a reply whose bytes are no message; before, it looks at their hash alone."""

Pulled = tuple[str, Message | None]
"""The number of a message that was sent, and a reply to it; None for one that cannot be read."""


class _Desk:
    """What the looks of one question share: which numbers are in hand, and what came."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._lock = threading.Lock()
        self._taken: set[str] = set()
        self.came: SimpleQueue[Pulled] = SimpleQueue()

    def free(self, numbers: Collection[str]) -> list[str]:
        """Those that no look has in hand and no reply came to."""
        with self._lock:
            return [number for number in numbers if number not in self._taken]

    def pull(self, number: str) -> None:
        """Look for the reply to one message, unless another look does or did.

        Flower forgets a message when it begins to hand its reply over, and tells whoever asks for it then
        that there is none such, as if it was lost.
        """
        with self._lock:
            if number in self._taken:
                return
            self._taken.add(number)
        found: list[Pulled] = []
        try:
            found = [(number, reply) for reply in self._grid.pull_messages([number])]
        except UNREADABLE:
            found = [(number, None)]
        finally:
            if not found:
                with self._lock:
                    self._taken.discard(number)
        for one in found:
            self.came.put(one)


class _Look(threading.Thread):
    """One look for replies, one message after the other, at its own pace."""

    def __init__(self, desk: _Desk, numbers: Collection[str]) -> None:
        super().__init__(name="pull", daemon=True)  # the server's end waits for none
        self._desk, self._numbers = desk, list(numbers)
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            for number in self._numbers:
                self._desk.pull(number)
        except BaseException as error:
            self.error = error


@dataclass
class Pulls:
    """Looks for replies; a look that takes long goes on beside the next ones.

    Flower hands a reply over when its first part has come, and its ``pull_messages`` then waits for the rest:
    as long as that is sent, and for minutes where the site died over it (flwr 1.41: until nothing has come
    for 180 s). So each message is asked for alone, and by one look at a time; nobody else's reply waits.

    Attributes:
        grid: of the run.
        patience: seconds that one look is waited for; None waits until it ends.
    """

    grid: Grid
    patience: float | None
    _under_way: list[_Look] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._desk = _Desk(self.grid)

    def take(self, numbers: Collection[str]) -> list[Pulled]:
        """Give the replies to these messages that are whole, and those that earlier looks have got by now.

        Raises:
            Exception: what Flower raised in a look.
        """
        free = self._desk.free(numbers)
        if free and len(self._under_way) < MOST:
            self._under_way.append(_Look(self._desk, free))
            self._under_way[-1].start()
        if self._under_way:
            self._under_way[-1].join(self.patience)
        ended = [look for look in self._under_way if not look.is_alive()]
        self._under_way = [look for look in self._under_way if look not in ended]
        for look in ended:
            if look.error is not None:
                raise look.error
        return self._got()

    def _got(self) -> list[Pulled]:
        found = []
        while True:
            try:
                found.append(self._desk.came.get_nowait())
            except Empty:
                return found
