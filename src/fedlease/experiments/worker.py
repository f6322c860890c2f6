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
from fedlease.experiments.jobs import DIVERGED
from fedlease.experiments.prepare import Federation, prepare, settle
from fedlease.experiments.run import resume, run
from fedlease.experiments.spec import Spec, make_spec
from fedlease.experiments.store import Store
from fedlease.experiments.work import SCORING, work

OFTEN = 0.5
"""Seconds between two lines that say how far the job is."""

Say = Callable[[dict[str, Any]], None]


class Telling:
    """An `Observer` that tells how many rows are done by now, in rows trained, without those only read."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._done, self._spoke = 0.0, 0.0

    def begin(self, spec: Spec, federation: Federation, done: int) -> None:
        """Say how much there is to do."""
        rows = {c: (len(site.train_rows), len(site.test_rows)) for c, site in federation.sites.items()}
        self._say({"whole": work(spec, rows).size * (1 - done / spec.rounds)})

    def step(self, step: Progress) -> None:
        """Count a batch."""
        size = step.rows * (SCORING if step.purpose in ("score", "loss") else 1.0)
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
        if asked.get("pace"):
            say({"pace": pace(make_spec(asked["spec"]))})
        else:
            _do(Path(asked["folder"]), asked["spec"], Path(asked["memory"]), say)
    except FedLeaseError as error:
        say({"error": " ".join(str(error).split())})
        return 2
    return 0


def _end_with_the_input() -> None:
    while sys.stdin.read(1):
        pass
    os._exit(1)


def _do(folder: Path, spec: dict[str, Any], memory: Path, say: Say) -> None:
    observer = Telling(say)
    try:
        if Store(folder).begun():
            resume(folder, observer=observer, memory=memory)
        else:
            run(spec, folder, observer=observer, memory=memory)
    except DivergedError as error:
        write_json(folder / DIVERGED, {"error": str(error), "version": __version__})
        say({"diverged": str(error)})


def pace(spec: Spec) -> float:
    """Rows trained per second of one process, measured on a few batches of one client of every entry."""
    from fedlease.core.adapter import Learn

    few = 3 * spec.training.batch_size
    entries = [
        entry.model_copy(update={"count": None, "split": None, "train_rows": few, "test_rows": 2})
        for entry in spec.clients
    ]
    spec = spec.model_copy(update={"clients": tuple(entries)})
    federation = prepare(spec, settle(spec, Path.cwd()))
    algorithm = federation.algorithm
    state = algorithm.init(federation.base.modules, spec.seed)
    rates = []
    for client, site in federation.sites.items():
        model = algorithm.deploy(algorithm.serve(state, client), {})
        site.train(model, Learn(round=1, epochs=1))  # the first batches of a shape are slower
        began = monotonic()
        site.train(model, Learn(round=1, epochs=1))
        rates.append(site.num_examples / (monotonic() - began))
    return len(rates) / sum(1 / rate for rate in rates)


if __name__ == "__main__":
    sys.exit(main())
