"""What a run shows while it goes: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from fedlease.experiments.work import SCORING, work
from fedlease.report.summary import run_report

EVERY = 10.0
"""Seconds between plain lines while a round goes on."""


@dataclass
class Going:
    """What is known of the run that goes on.

    Attributes:
        method: its name.
        rounds: how many there are.
        round: the one that goes on.
        work: rows to train plus `SCORING` times rows to score, over the whole run.
        start, done: of ``work``, what was done when the clock started, and now.
        rows, seconds: trained since then, for the speed.
        began, spoke: when the clock started, and when the last plain line was printed.
        task: its bar, on a terminal.
    """

    method: str
    rounds: int
    round: int
    work: float
    start: float
    done: float
    rows: int = 0
    seconds: float = 0.0
    began: float = field(default_factory=monotonic)
    spoke: float = field(default_factory=monotonic)
    task: TaskID | None = None

    @property
    def speed(self) -> float:
        """Rows trained per second of training."""
        return self.rows / self.seconds if self.seconds else 0.0

    @property
    def left(self) -> float:
        """Seconds to go, at the pace so far."""
        done = self.done - self.start
        return (monotonic() - self.began) * (self.work - self.done) / done if done > 0 else 0.0


class Live:
    """An `Observer` for people; one run after another can be shown on it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.fields[head]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[tail]}"),
            console=console,
            transient=True,
        )
        self._run = Going("", 0, 0, 0.0, 0.0, 0.0)

    def begin(self, spec: Spec, federation: Federation, done: int) -> None:
        """Say what runs where, and start the clock."""
        self.stop()
        method, plan, quantised = str(spec.method["name"]), federation.plan, spec.model.quantization
        form = plan.precision if quantised == "none" else f"{quantised} in {plan.precision}"
        training, work = spec.training.on(plan), _work(spec, federation)
        micro = training.micro_batch_size
        pieces = f", {micro} rows of a batch at once" if micro and micro < training.batch_size else ""
        todo = f"rounds {done + 1} to {spec.rounds}" if done < spec.rounds else "all rounds done"
        self._console.print(
            f"{method}: {len(federation.sites)} clients, {todo}, "
            f"{form} with {plan.attention} attention on {plan.threads} threads ({plan.why}){pieces}",
            highlight=False,
        )
        start = work * done / spec.rounds
        run = self._run = Going(method, spec.rounds, min(done + 1, spec.rounds), work, start, start)
        if self._console.is_terminal:
            run.task = self._bar.add_task("", total=work, completed=round(start), head="", tail="")
            self._bar.start()

    def note(self, text: str) -> None:
        """Show a line about what is done before a run begins."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def step(self, step: Step) -> None:
        """Show a batch."""
        run = self._run
        scoring = step.loss is None
        run.done += step.rows * (SCORING if scoring else 1.0)
        if not scoring and not step.reused:
            run.rows, run.seconds = run.rows + step.rows, run.seconds + step.seconds
        head = f"{run.method} round {run.round}/{run.rounds}  {step.client} {step.purpose}"
        loss = "" if step.loss is None else f"loss {step.loss:.3f}  "
        tail = f"{loss}{run.speed:.0f} rows/s  {clock(run.left)} left"
        if run.task is not None:
            self._bar.update(run.task, completed=run.done, head=head, tail=tail)
        elif monotonic() - run.spoke >= EVERY:
            run.spoke = monotonic()
            share = min(100 * run.done / run.work, 100.0)
            self._console.print(f"  {head}  {share:.0f} %  {tail}", highlight=False, soft_wrap=True)

    def round(self, entry: dict[str, Any]) -> None:
        """Leave a line for a round that is done."""
        run = self._run
        run.round = min(entry["round"] + 1, run.rounds)  # what comes after the last one belongs to it
        run.spoke = monotonic()
        for line in round_lines(run.method, run.rounds, entry):
            self._console.print(line, highlight=False, soft_wrap=True)

    def end(self, seconds: float) -> None:
        """Stop the live line."""
        self.stop()
        self._console.print(f"  {self._run.method} done in {clock(seconds)}", highlight=False)

    def stop(self) -> None:
        """Stop the live line without a word, when a run breaks off."""
        if self._run.task is not None:
            self._bar.stop()
            self._bar.remove_task(self._run.task)
            self._run.task = None


def _work(spec: Spec, federation: Federation) -> float:
    """Rows to train and to score in all rounds, the latter at their price."""
    rows = {client: (len(site.train_rows), len(site.test_rows)) for client, site in federation.sites.items()}
    return work(spec, rows).size


def round_lines(method: str, rounds: int, entry: Mapping[str, Any]) -> list[str]:
    """What is said of a round that is done, from its entry in the record, and of whom it left out."""
    said = [f"loss {mean(entry['loss'].values()):.3f}"] if entry["loss"] else []
    said += [f"{name} {100 * value:.1f} %" for name, value in _means(entry["metrics"]).items()]
    seconds = entry["seconds"]
    overhead = 100 * seconds["other"] / seconds["total"]
    said.append(f"{seconds['total']:.1f} s ({overhead:.1f} % outside training and scoring)")
    return [
        f"  {method} round {entry['round']}/{rounds}: {', '.join(said)}",
        *(f"    {left_out(one)}" for one in entry.get("left_out", ())),
    ]


def left_out(one: Mapping[str, str]) -> str:
    """Who is left out of what, and why."""
    return f"{one['client']} is left out of {one['task']}: it {one['reason']}"


def _means(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The mean of every metric over the clients that have it, in the order they come."""
    values: dict[str, list[float]] = {}
    for scores in metrics.values():
        for name, value in scores.items():
            values.setdefault(name, []).append(value)
    return {name: mean(found) for name, found in values.items()}


def clock(seconds: float) -> str:
    """``12:05``: minutes and seconds."""
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
