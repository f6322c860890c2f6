"""Carry out a sweep: keep every process busy with the next job until nothing is left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from fedlease.experiments.jobs import Job
from fedlease.experiments.manifest import Tuned
from fedlease.experiments.pool import Event, Pool

if TYPE_CHECKING:
    from fedlease.experiments.sweep import Sweep


class Watcher(Protocol):
    """Whoever shows a sweep to people."""

    def pacing(self, done: int, whole: int) -> None:
        """Before it starts, ``done`` of ``whole`` measurements of its pace are made."""

    def begin(self, sweep: Sweep) -> None:
        """It starts; its pace is measured, where anything is to be done."""

    def event(self, event: Event) -> None:
        """A process said something, or ended."""

    def chosen(self, key: str, tuned: Tuned) -> None:
        """A learning rate is chosen."""

    def left(self, seconds: float) -> None:
        """A job ended. So much is left, in seconds of one process, what others did since they started too."""


def carry_out(sweep: Sweep, watcher: Watcher) -> dict[str, str]:
    """Do what is left of a sweep; return what failed, and why."""
    failed: dict[str, str] = {}
    said: dict[str, str] = {}
    told: set[str] = set()
    active: dict[str, Job] = {}
    begun: dict[str, int] = {}
    with Pool(sweep.store / "logs") as pool:
        while True:
            _tell_rates(sweep, watcher, told)
            waiting = [one for one in sweep.todo() if one.name not in failed and one.name not in active]
            while waiting and len(active) < sweep.side_by_side:
                one = _next(waiting, active.values())
                waiting.remove(one)
                active[one.name], begun[one.name] = one, one.rounds(sweep.store)
                pool.start(one.name, _asked(sweep, one))
            if not active:
                return failed
            ended = _hear(pool, watcher, said)
            one = active.pop(ended.name)
            del begun[ended.name]
            if not one.done(sweep.store) and not (one in sweep.tuning.jobs and one.diverged(sweep.store)):
                log = sweep.store / "logs" / f"{ended.name}.log"
                failed[ended.name] = said.get(ended.name, f"it ended with status {ended.code}; see {log}")
            watcher.left(sweep.left(begun))


def _tell_rates(sweep: Sweep, watcher: Watcher, told: set[str]) -> None:
    """Tell of learning rates that are chosen by now, each once."""
    for key in [key for key in sweep.tuning.trials if key not in told]:
        tuned = sweep.tuning.tuned(key)
        if tuned is not None:
            told.add(key)
            watcher.chosen(key, tuned)
            sweep.write_manifests()


def _hear(pool: Pool, watcher: Watcher, said: dict[str, str]) -> Event:
    """Pass on what processes say until one ends; note down what went wrong."""
    while True:
        event = pool.wait(1.0)
        if event is None:
            continue
        for key in ("error", "diverged"):
            if key in event.said:
                said[event.name] = str(event.said[key])
        watcher.event(event)
        if event.code is not None:
            return event


def _asked(sweep: Sweep, one: Job) -> dict[str, Any]:
    return {
        "folder": str(one.folder(sweep.store)),
        "spec": one.spec.model_dump(mode="json", exclude_unset=True),
        "memory": str(sweep.store / "shared"),
        "costs": [[*key, seconds] for key, seconds in sweep.pace.costs(one.spec).items()],
    }


def _next(waiting: Sequence[Job], active: Iterable[Job]) -> Job:
    """The first job that shares no training with one that goes on: it would do it a second time."""
    busy = {key for one in active for key in one.work.shared}
    return next((one for one in waiting if not busy & one.work.shared.keys()), waiting[0])
