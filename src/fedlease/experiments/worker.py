"""A process that does one job of a sweep: ``python -m fedlease.experiments.worker``.

The first line on its standard input says which job; it ends when that input is closed, so that it never
outlives the sweep, however that dies. On its standard output it says in JSON lines how far it is.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

from fedlease import __version__
from fedlease.core.errors import DivergedError, FedLeaseError
from fedlease.core.files import write_json
from fedlease.core.progress import Progress
from fedlease.core.protocols import ClientId
from fedlease.experiments.jobs import DIVERGED
from fedlease.experiments.pace import measured_here
from fedlease.experiments.prepare import Federation
from fedlease.experiments.run import resume, run
from fedlease.experiments.spec import Spec, make_spec
from fedlease.experiments.store import Store
from fedlease.experiments.work import Costs, kind_of, work

OFTEN = 0.5
"""Seconds between two lines that say how far the job is."""

Say = Callable[[dict[str, Any]], None]


class Telling:
    """An `Observer` that tells how much is done by now, in seconds at the pace that was measured.

    What was only read counts apart.
    """

    def __init__(self, say: Say, costs: Costs) -> None:
        self._say, self._costs = say, costs
        self._done, self._spoke = 0.0, 0.0
        self._group_of: dict[ClientId, str] = {}

    def begin(self, spec: Spec, federation: Federation, done: int) -> None:
        """Say how much there is to do."""
        self._group_of = {client: entry.name for entry in spec.clients for client in entry.ids}
        rows = {c: (len(site.train_rows), len(site.test_rows)) for c, site in federation.sites.items()}
        self._say({"whole": work(spec, rows).seconds(self._costs) * (1 - done / spec.rounds)})

    def step(self, step: Progress) -> None:
        """Count a batch."""
        size = step.rows * self._costs[self._group_of[step.client], kind_of(step.purpose)]
        if step.reused:
            self._say({"reused": size})
            return
        self._done += size
        if monotonic() - self._spoke >= OFTEN:
            self._spoke = monotonic()
            self._say({"done": self._done})

    def round(self, entry: dict[str, Any]) -> None:
        """Say that a round is done."""
        self._say({"done": self._done, "round": entry["round"]})

    def end(self, seconds: float) -> None:
        """Nothing more to say."""


def main() -> int:
    """Do the job that comes in; return 0 when it is done, 2 when the user can put right what stopped it."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries that print do not disturb the lines
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sweep decides, by closing the input
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_input, daemon=True).start()

    def say(line: dict[str, Any]) -> None:
        out.write(json.dumps(line) + "\n")

    try:
        if "pace" in asked:
            specs = [make_spec(spec) for spec in asked["pace"]]
            say({"pace": [measured_here(spec, lambda group: say({"measured": group})) for spec in specs]})
        else:
            costs = {(group, kind): seconds for group, kind, seconds in asked["costs"]}
            do(Path(asked["folder"]), asked["spec"], Path(asked["memory"]), Telling(say, costs), say)
    except FedLeaseError as error:
        say({"error": " ".join(str(error).split())})
        return 2
    return 0


def _end_with_the_input() -> None:
    while sys.stdin.read(1):
        pass
    os._exit(1)


def do(folder: Path, spec: dict[str, Any], memory: Path, observer: Telling, say: Say) -> None:
    """Run a job, or go on with it; nothing is measured, for that was the sweep's, before any job began."""
    try:
        if Store(folder).begun():
            resume(folder, observer=observer, memory=memory)
        else:
            run(spec, folder, observer=observer, memory=memory, measure=False)
    except DivergedError as error:
        write_json(folder / DIVERGED, {"error": str(error), "version": __version__})
        say({"diverged": str(error)})


if __name__ == "__main__":
    sys.exit(main())
