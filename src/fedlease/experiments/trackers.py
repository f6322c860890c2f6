"""Trackers people already have: TensorBoard, Weights & Biases, MLflow, through accelerate's.

A tracker is told what the record tells, round by round; it is no part of the run. Each works in a thread of
its own, so that one that is slow or fails holds up nothing: it is told in a line and left. What lies in the
run's folder is enough to go on with the same run of the tracker::

    trackers/tensorboard.json   {"format": 1, "logged": 7, "run": null, "begun": true, "complete": false}
    trackers/tensorboard/       TensorBoard's event files; Weights & Biases keeps its own in trackers/wandb/
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fedlease import __version__
from fedlease.core.errors import FedLeaseError
from fedlease.core.files import read_json, write_json
from fedlease.core.progress import Progress
from fedlease.experiments.store import TRACKERS, History, Store
from fedlease.experiments.tracked import Numbers, allocated, hyperparameters, routed, values

FORMAT = 1

PATIENCE, HURRY = 60.0, 5.0
"""Seconds that trackers get to take what they were told when a run is complete, and when it broke off."""

PROJECT = "fedlease"
"""Under which Weights & Biases and MLflow list runs, where their environment variables name nothing else."""

Said = Callable[[str], None]


def _to_stderr(line: str) -> None:
    print(f"fedlease: {line}", file=sys.stderr)


@dataclass
class Place:
    """Where a tracker is with a run.

    Attributes:
        logged: rounds it was told.
        run: what it calls the run; None where it needs no name.
        begun: whether it knows the hyperparameters.
        complete: whether it knows all there is.
    """

    logged: int = 0
    run: str | None = None
    begun: bool = False
    complete: bool = False


def _tensorboard(folder: Path, place: Place) -> Any:
    from accelerate.tracking import TensorBoardTracker

    # what an earlier process wrote of later rounds and was killed over is void
    return TensorBoardTracker("tensorboard", folder / TRACKERS, purge_step=place.logged + 1)


def _wandb(folder: Path, place: Place) -> Any:
    from accelerate.tracking import WandBTracker

    place.run = place.run or uuid.uuid4().hex[:12]
    return WandBTracker(
        os.environ.get("WANDB_PROJECT", PROJECT),
        id=place.run,
        name=folder.resolve().name,
        resume="allow",
        dir=str(folder / TRACKERS),
        settings={"console": "off", "silent": True},
    )


def _mlflow(folder: Path, place: Place) -> Any:
    from accelerate.tracking import MLflowTracker

    return MLflowTracker(PROJECT, run_id=place.run, run_name=folder.resolve().name)


KNOWN: dict[str, tuple[str, Callable[[Path, Place], Any]]] = {
    "tensorboard": ("torch.utils.tensorboard", _tensorboard),
    "wandb": ("wandb", _wandb),
    "mlflow": ("mlflow", _mlflow),
}
"""Of every tracker what is imported, and how accelerate's is made for a run."""


def check(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of trackers, each once, if they are known and installed.

    Raises:
        FedLeaseError: one is not.
    """
    found = tuple(dict.fromkeys(names))
    for name in found:
        if name not in KNOWN:
            raise FedLeaseError(f"there is no tracker {name!r}; there are: {', '.join(KNOWN)}")
        if find_spec(name) is None or find_spec("accelerate") is None:
            raise FedLeaseError(f"{name} is not installed: pip install 'fedlease[{name}]'")
    return found


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
        """Let it know of a round, or what is known after the ``last`` one."""
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
    """All trackers that follow a run, as a `Listener`."""

    def __init__(self, store: Store, followers: Sequence[Follower]) -> None:
        self._store, self._followers = store, followers

    def step(self, step: Progress) -> None:
        """They are told of rounds only."""

    def round(self, entry: Mapping[str, Any]) -> None:
        """Tell them of a round that is in the record."""
        if self._followers:
            numbers = {**values(entry), **allocated(self._store.record())}
            for follower in self._followers:
                follower.tell(entry["round"], numbers)

    def complete(self) -> None:
        """Tell them what is known at the end alone."""
        if self._followers:
            record = self._store.record()
            for follower in self._followers:
                follower.tell(len(record["rounds"]), routed(record), last=True)


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
    followers = []
    for name in names:
        try:
            check((name,))
            import_module(KNOWN[name][0])  # here: imports of two threads may wait for each other
            (store.folder / TRACKERS).mkdir(exist_ok=True)
            follower = Follower(name, store.folder, hyperparameters(store.resolved()), said)
        except (FedLeaseError, ImportError, OSError) as error:
            said(f"{name} does not follow the run: {' '.join(str(error).split())}")
            continue
        if follower.place.complete:
            continue
        for entry in history.rounds[follower.place.logged :]:
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
