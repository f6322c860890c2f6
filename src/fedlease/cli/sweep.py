"""What a sweep shows while it goes: a bar for each process and one for all, or plain lines."""

from __future__ import annotations

from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from fedlease.cli.live import clock
from fedlease.experiments.jobs import Job
from fedlease.experiments.manifest import Tuned
from fedlease.experiments.pool import Event
from fedlease.experiments.sweep import Sweep

EVERY = 60.0
"""Seconds between plain lines."""

EARLY = 0.03
"""Up to this share of the work the pace so far says little: starting up is in it."""


def hours(seconds: float) -> str:
    """``2 h 05 min``, ``12 min``, ``under a minute``."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "under a minute"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


class SweepScreen:
    """A `Watcher` for people; to be left by `stop`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[tail]}"),
            console=console,
            transient=True,
        )
        self._bars: dict[str, TaskID] = {}
        self._jobs: dict[str, Job] = {}
        self._done: dict[str, float] = {}
        self._began = self._spoke = monotonic()
        self._whole = self._took = 0.0
        self._started: dict[str, float] = {}

    def begin(self, sweep: Sweep, pace: float) -> None:
        """Say what is to be done and how long it will take."""
        self._sweep, self._whole = sweep, sweep.left()
        for line in plan(sweep):
            self._console.print(line, highlight=False, soft_wrap=True)
        if pace:
            self._took = self._whole / pace / sweep.processes
            self._console.print(
                f"This will take about {hours(self._took)}: {self._whole:.0f} rows at {pace:.0f} rows/s in "
                f"each of {sweep.processes} process(es), measured just now.",
                highlight=False,
                soft_wrap=True,
            )
        self._began = self._spoke = monotonic()
        if self._console.is_terminal:
            self._bar.start()
            self._bars[""] = self._bar.add_task("all", total=self._whole, tail="")

    def chosen(self, key: str, tuned: Tuned) -> None:
        """Say which learning rate a method takes, and what it was chosen from."""
        scores = ", ".join(
            f"{rate}: {'diverged' if score is None else f'{100 * score:.1f} %'}"
            for rate, score in tuned.scores.items()
        )
        self._console.print(
            f"learning rate of {key}: {tuned.chosen:g} (held-out training rows, {scores})", highlight=False
        )

    def event(self, event: Event) -> None:
        """Move the bars; say when a run is done."""
        name = event.name
        if name not in self._started:
            self._started[name] = monotonic()
            self._done[name] = 0.0
            if self._console.is_terminal:
                self._bars[name] = self._bar.add_task(name, total=None, tail="")
        if "whole" in event.said and name in self._bars:
            self._bar.update(self._bars[name], total=event.said["whole"])
        if "done" in event.said:
            self._done[name] = float(event.said["done"])
        if event.code is not None:
            took = clock(monotonic() - self._started[name])
            said = "done" if event.code == 0 else f"ended with status {event.code}"
            self._console.print(
                f"  {name}: {said} in {took}, {self._tail()}", highlight=False, soft_wrap=True
            )
            if name in self._bars:
                self._bar.remove_task(self._bars.pop(name))
        elif name in self._bars:
            self._bar.update(self._bars[name], completed=self._done[name])
        if "" in self._bars:
            self._bar.update(self._bars[""], completed=sum(self._done.values()), tail=self._tail())
        elif monotonic() - self._spoke >= EVERY:
            self._spoke = monotonic()
            self._console.print(f"  {self._tail()}", highlight=False)

    def _tail(self) -> str:
        """How much is done and how long the rest will take, at the pace so far once there is one."""
        share = min(sum(self._done.values()) / self._whole, 1.0) if self._whole else 1.0
        spent = monotonic() - self._began
        left = spent / share * (1 - share) if share > EARLY else max(self._took - spent, 0.0)
        return f"{100 * share:.0f} %, {hours(left)} left"

    def stop(self) -> None:
        """Leave the terminal in order."""
        if self._bars:
            self._bar.stop()


def plan(sweep: Sweep) -> list[str]:
    """What a sweep is made of, in sentences."""
    names = ", ".join(preset.name for preset in sweep.presets)
    trials, runs = sweep.trials, sweep.runs()
    there = sum(one.done(sweep.store) for one in [*trials, *runs])
    return [
        f"{names} ({sweep.size}): {len(runs)} runs, and {len(trials)} trials to choose learning rates on "
        f"held-out training rows; {there} are in {sweep.store} already."
    ]
