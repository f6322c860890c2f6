"""What a run shows while it goes: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from statistics import mean
from time import monotonic
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from fedlease.cli.screen import console
from fedlease.core.progress import Progress as Step
from fedlease.experiments.prepare import Federation
from fedlease.experiments.results import Run
from fedlease.experiments.spec import Spec
from fedlease.report.summary import run_report

SCORING = 0.4
"""A row scored costs about this much of a row trained: used for the time left alone."""

EVERY = 10.0
"""Seconds between plain lines while a round goes on."""


class Live:
    """An `Observer` for people.

    Attributes:
        work: rows trained plus `SCORING` times rows scored, done and in all; progress is their ratio.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = console.is_terminal
        self._bar = Progress(
            TextColumn("{task.fields[head]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[tail]}"),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._began = self._spoke = self._resumed = monotonic()
        self._done = self._start = self._work = 0.0
        self._rows, self._seconds = 0, 0.0
        self._method, self._rounds, self._round = "", 0, 0

    def begin(self, spec: Spec, federation: Federation, done: int) -> None:
        """Say what runs where, and start the clock."""
        self._method, self._rounds, self._round = str(spec.method["name"]), spec.rounds, done + 1
        sites = federation.sites.values()
        train = sum(len(site.train_rows) for site in sites) * spec.training.epochs * spec.rounds
        scored = spec.rounds // spec.score_every + (spec.rounds % spec.score_every > 0)
        score = sum(len(site.test_rows) for site in sites) * scored
        self._work = train + SCORING * score
        self._done = self._start = self._work * done / spec.rounds
        plan = federation.plan
        self._console.print(
            f"{self._method}: {len(federation.sites)} clients, rounds {done + 1} to {spec.rounds}, "
            f"{plan.precision} with {plan.attention} attention on {plan.threads} threads ({plan.why})",
            highlight=False,
        )
        self._began = self._spoke = monotonic()
        if self._live:
            self._task = self._bar.add_task("", total=self._work, head="", tail="")
            self._bar.update(self._task, completed=self._done)
            self._bar.start()

    def step(self, step: Step) -> None:
        """Show a batch."""
        scoring = step.loss is None
        self._done += step.rows * (SCORING if scoring else 1.0)
        if not scoring:
            self._rows, self._seconds = self._rows + step.rows, self._seconds + step.seconds
        head = f"{self._method} round {self._round}/{self._rounds}  {step.client} {step.purpose}"
        loss = "" if step.loss is None else f"loss {step.loss:.3f}  "
        rate = self._rows / self._seconds if self._seconds else 0.0
        tail = f"{loss}{rate:.0f} rows/s  {_clock(self._left())} left"
        if self._task is not None:
            self._bar.update(self._task, completed=self._done, head=head, tail=tail)
        elif monotonic() - self._spoke >= EVERY:
            self._spoke = monotonic()
            share = 100 * self._done / self._work
            self._console.print(f"  {head}  {share:.0f} %  {tail}", highlight=False, soft_wrap=True)

    def round(self, entry: dict[str, Any]) -> None:
        """Leave a line for a round that is done."""
        self._round = entry["round"] + 1
        self._spoke = monotonic()
        scores = [scores["accuracy"] for scores in entry["metrics"].values() if "accuracy" in scores]
        said = [f"loss {mean(entry['loss'].values()):.3f}"] if entry["loss"] else []
        said += [f"accuracy {100 * mean(scores):.1f} %"] if scores else []
        seconds = entry["seconds"]
        overhead = 100 * seconds["other"] / seconds["total"]
        said.append(f"{seconds['total']:.1f} s ({overhead:.1f} % outside training and scoring)")
        self._console.print(
            f"  {self._method} round {entry['round']}/{self._rounds}: {', '.join(said)}",
            highlight=False,
            soft_wrap=True,
        )

    def end(self, seconds: float) -> None:
        """Stop the live line."""
        self.stop()
        self._console.print(f"  {self._method} done in {_clock(seconds)}", highlight=False)

    def stop(self) -> None:
        """Stop the live line without a word, when a run breaks off."""
        if self._task is not None:
            self._bar.stop()
            self._task = None

    def _left(self) -> float:
        done = self._done - self._start
        return (monotonic() - self._began) * (self._work - self._done) / done if done > 0 else 0.0


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    return f"{minutes}:{rest:02d}"


@contextmanager
def shown() -> Iterator[tuple[Console, Live]]:
    """Give a console and an observer on it, and leave the terminal in order however the run ends."""
    screen = console()
    live = Live(screen)
    try:
        yield screen, live
    finally:
        live.stop()


def report(screen: Console, run: Run) -> None:
    """Print what a run found, and where it lies."""
    screen.print(run_report(run.record))
    screen.print(f"run folder: {run.folder}", highlight=False, soft_wrap=True)
