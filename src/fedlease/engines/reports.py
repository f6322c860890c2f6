"""What clients report of their work beside their answers, as steps that whoever watches understands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from fedlease.core.progress import Progress, Watch
from fedlease.core.protocols import ClientId
from fedlease.engines.exchange import SCORE

Report = Mapping[str, object]
"""``rows`` and ``seconds`` of the work; ``scored_rows`` and ``scored_seconds``: what of it was no training;
``loss``; ``place``: where it was done, if clients share places. It comes from outside and may be anything."""


@dataclass
class Reports:
    """Passes on the reports of one exchange as they come, as far as they make sense.

    Places compute side by side, so of their seconds only those of the slowest count.

    Attributes:
        watch: told of a client's work when its answer is there.
        task, round: of the exchange.
    """

    watch: Watch
    task: str
    round: int
    _spent: dict[str, float] = field(default_factory=dict)
    _told: float = 0.0

    def tell(self, client: ClientId, report: Report) -> None:
        """Pass on one client's report."""
        rows, seconds = int(_number(report.get("rows"))), _number(report.get("seconds"))
        scored, scoring = rows, seconds
        if self.task != SCORE:
            scored = min(int(_number(report.get("scored_rows"))), rows)
            scoring = min(_number(report.get("scored_seconds")), seconds)
        share = self._counted(str(report.get("place", client)), seconds) / seconds if seconds else 0.0
        said = report.get("loss")
        loss = None if said != _number(said) else _number(said)
        if scored or self.task == SCORE:
            self._step(client, "score", scored, None, scoring * share)
        if self.task != SCORE:
            self._step(client, "train", rows - scored, loss, (seconds - scoring) * share)

    def _counted(self, place: str, seconds: float) -> float:
        """Which of these seconds nobody else spent computing at the same time."""
        self._spent[place] = self._spent.get(place, 0.0) + seconds
        counted = max(self._spent[place] - self._told, 0.0)
        self._told += counted
        return counted

    def _step(self, client: ClientId, purpose: str, rows: int, loss: float | None, seconds: float) -> None:
        self.watch(Progress(client, self.round, purpose, rows, rows, rows, loss, seconds))


def _number(value: object) -> float:
    """The value if it is a finite number of 0 or more, else 0."""
    good = isinstance(value, int | float) and math.isfinite(value) and value >= 0
    return float(value) if good else 0.0  # type: ignore[arg-type]
