"""Trackers people already have: TensorBoard, Weights & Biases, MLflow, through accelerate's.

A tracker is told what the record tells, round by round; it is no part of the run. Each works in a thread of
its own, so that one that is slow or fails holds up nothing: it is told in a line and left. What lies in the
run's folder is enough to go on with the same run of the tracker::

    trackers/tensorboard.json   {"format": 1, "logged": 7, "run": null, "begun": true, "complete": false}
    trackers/tensorboard/       TensorBoard's event files; Weights & Biases keeps its own in trackers/wandb/
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedlease import __version__
from fedlease.core.errors import FedLeaseError
from fedlease.core.files import read_json, write_json
from fedlease.core.progress import Progress
from fedlease.experiments.checkpoint import History
from fedlease.experiments.store import TRACKERS, Store
from fedlease.experiments.tracking.kinds import KNOWN, Place, check, prepare
from fedlease.experiments.tracking.numbers import Numbers, allocated, hyperparameters, routed, values

FORMAT = 1

PATIENCE, HURRY = 60.0, 5.0
"""Seconds that trackers get to take what they were told when a run is complete, and when it broke off."""

Said = Callable[[str], None]


def _to_stderr(line: str) -> None:
    print(f"fedlease: {line}", file=sys.stderr)


def remembered(folder: Path) -> tuple[str, ...]:
    """The trackers that a run was told to by an earlier process."""
    return tuple(name for name in KNOWN if (folder / TRACKERS / f"{name}.json").is_file())


class Follower(threading.Thread):
    """A tracker that follows a run, in its own thread; the first failure ends it with a line.

    Args:
        name: of the tracker.
        folder: of the run.
        settings: the hyperparameters.
        said: told what fails.
    """

    def __init__(self, name: str, folder: Path, settings: Mapping[str, Any], said: Said) -> None:
        super().__init__(name=f"fedlease-{name}", daemon=True)
        self._tracker, self._folder, self._settings, self._said = name, folder, settings, said
        self._path = folder / TRACKERS / f"{name}.json"
        self._place = _read(self._path)
        self._told: queue.Queue[tuple[int, Numbers, bool] | None] = queue.Queue()

    @property
    def place(self) -> Place:
        """Where it is with the run; before it is started, as an earlier process left it."""
        return self._place

    def tell(self, round: int, numbers: Numbers, last: bool = False) -> None:
        """Let it know of a round; of the ``last`` one with all that is known at the end."""
        self._told.put((round, numbers, last))

    def close(self) -> None:
        """Nothing more comes."""
        self._told.put(None)

    def run(self) -> None:
        """Start the tracker and pass on what is told until there is no more."""
        try:
            tracker = KNOWN[self._tracker][1](self._folder, self._place)
            self._write()  # its name of the run, before it is used
            tracker.start()
            if self._tracker == "mlflow":
                self._place.run = tracker.tracker.info.run_id
                self._write()
            if not self._place.begun:
                tracker.store_init_configuration(dict(self._settings))
                self._place.begun = True
            while (told := self._told.get()) is not None:
                round, numbers, self._place.complete = told
                tracker.log(numbers, step=round)
                self._place.logged = round
                self._write()
            tracker.finish()
        except Exception as error:  # whatever a tracker does, the run goes on
            why = " ".join(f"{type(error).__name__}: {error}".split())
            self._said(f"{self._tracker} failed, and the run goes on without it: {why}")

    def _write(self) -> None:
        write_json(self._path, {"format": FORMAT, **asdict(self._place)})


def _read(path: Path) -> Place:
    if not path.is_file():
        return Place()
    value = read_json(path)
    found = value.get("format") if isinstance(value, dict) else None
    if found != FORMAT:
        raise FedLeaseError(f"{path} has format {found}; fedlease {__version__} reads {FORMAT}")
    try:
        return Place(**{key: value[key] for key in asdict(Place())})
    except KeyError as error:
        raise FedLeaseError(f"{path} is damaged: it has no {error}") from error


class Trackers:
    """All trackers that follow a run, as a `Listener`.

    They are told of the last round when the run is complete: only then the record has all of it.
    """

    def __init__(self, store: Store, followers: Sequence[Follower]) -> None:
        self._store, self._followers = store, followers

    def step(self, step: Progress) -> None:
        """They are told of rounds only."""

    def round(self, entry: Mapping[str, Any]) -> None:
        """Tell them of a round that is in the record."""
        if not self._followers:
            return
        record = self._store.record()
        if entry["round"] < record["spec"]["rounds"]:
            for follower in self._followers:
                follower.tell(entry["round"], {**values(entry), **allocated(record)})

    def complete(self) -> None:
        """Tell them of the last round, and what is known at the end alone."""
        if not self._followers:
            return
        record = self._store.record()
        last = record["rounds"][-1]
        for follower in self._followers:
            numbers = {**values(last), **allocated(record), **routed(record)}
            follower.tell(last["round"], numbers, last=True)


@contextmanager
def following(
    store: Store, names: Iterable[str], history: History, said: Said = _to_stderr
) -> Iterator[Trackers]:
    """While this is open trackers follow a run; they are told first of the rounds they missed.

    Args:
        store: of the run.
        names: of trackers; one that cannot be used is told to ``said`` and left out.
        history: the rounds that are done.
        said: told what fails, in lines.
    """
    followers, resolved = [], store.resolved()
    settings, rounds = hyperparameters(resolved), resolved["spec"]["rounds"]
    for name in names:
        try:
            check((name,))
            prepare(name)
            (store.folder / TRACKERS).mkdir(exist_ok=True)
            follower = Follower(name, store.folder, settings, said)
        except Exception as error:  # of whatever is imported; the run goes on
            said(f"{name} does not follow the run: {' '.join(str(error).split())}")
            continue
        if follower.place.complete:
            continue
        for entry in history.rounds[follower.place.logged :]:
            if entry["round"] < rounds:
                follower.tell(entry["round"], values(entry))
        follower.start()
        followers.append(follower)
    patience = HURRY
    try:
        yield Trackers(store, followers)
        patience = PATIENCE
    finally:
        for follower in followers:
            follower.close()
        end = time.monotonic() + patience
        for follower in followers:
            follower.join(max(end - time.monotonic(), 0.0))
            if follower.is_alive():
                said(
                    f"{follower.name.removeprefix('fedlease-')} does not answer: not all it was told is there"
                )
