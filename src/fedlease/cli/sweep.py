"""What a sweep shows while it goes: a bar for each process and one for all, or plain lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from fedlease.cli.live import clock
from fedlease.cli.table import show_table
from fedlease.experiments.jobs import Job
from fedlease.experiments.manifest import Tuned
from fedlease.experiments.pool import Event
from fedlease.experiments.results import Run
from fedlease.experiments.surroundings import surroundings
from fedlease.experiments.sweep import Sweep

EVERY = 60.0
"""Seconds between plain lines."""

EARLY = 0.03
"""Up to this share of the work the pace so far says little: starting up is in it."""

PACING = "measuring the pace"
"""The bar while that goes on."""


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
        self._going: dict[str, Going] = {}
        self._began = self._spoke = monotonic()
        self._whole = self._left = self._worked = self._pace = 0.0

    def begin(self, sweep: Sweep) -> None:
        """Say what is to be done and how long it will take."""
        self._whole = self._left = sweep.left({})
        self._pace = float(sweep.side_by_side)
        for line in plan(sweep):
            self._say(line)
        todo = [*sweep.todo(), *sweep.foreseen()]
        if todo:
            longest = max(one.work.seconds(sweep.pace.costs(one.spec)) for one in todo)
            took = hours(max(self._whole / self._pace, longest))
            self._say(
                f"This will take about {took} in {sweep.side_by_side} process(es). "
                f"Measured just now, in each: {sweep.pace.told()}."
            )
        self._began = self._spoke = monotonic()
        if self._console.is_terminal:
            self._bar.start()
            self._bars[""] = self._bar.add_task("all", total=self._whole, tail="")

    def note(self, text: str) -> None:
        """Show a line about what is done before it starts."""
        self._say(text)

    def pacing(self, done: int, whole: int) -> None:
        """Show how far the measuring is, which takes minutes where texts are written."""
        if not done:
            self._say("Measuring how long rows take on this machine, a few batches of every kind.")
        if self._console.is_terminal:
            self._bar.start()
            if PACING not in self._bars:
                self._bars[PACING] = self._bar.add_task(PACING, total=whole, tail="")
            self._bar.update(self._bars[PACING], completed=done)
            if done == whole:
                self._bar.remove_task(self._bars.pop(PACING))
        elif done and monotonic() - self._spoke >= EVERY:
            self._spoke = monotonic()
            self._say(f"  {PACING}: {done} of {whole}")

    def chosen(self, key: str, tuned: Tuned) -> None:
        """Say which learning rate a method takes, and what it was chosen from."""
        scores = ", ".join(
            f"{rate}: {'diverged' if score is None else f'{100 * score:.1f} %'}"
            for rate, score in tuned.scores.items()
        )
        rate = "none" if tuned.chosen is None else f"{tuned.chosen:g}"
        self._say(f"learning rate of {key}: {rate} (held-out training rows, {scores})")

    def event(self, event: Event) -> None:
        """Move the bars; say when a run is done, or why it is not."""
        going = self._going.setdefault(event.name, Going())
        if event.name not in self._bars and self._console.is_terminal:
            self._bars[event.name] = self._bar.add_task(event.name, total=None, tail="")
        going.hear(event)
        if event.code is not None:
            self._worked += going.worked
            self._left -= going.done  # until `left` says it exactly
            self._say(f"  {event.name}: {going.end(event.code)}")
            del self._going[event.name]
            if event.name in self._bars:
                self._bar.remove_task(self._bars.pop(event.name))
        elif event.name in self._bars:
            self._bar.update(self._bars[event.name], total=going.whole, completed=going.done)
        self._show()

    def left(self, seconds: float) -> None:
        """Take note of what is left when a run has ended."""
        self._left = seconds

    def _show(self) -> None:
        """How much is done and how long the rest will take, at the pace so far once there is one."""
        rest = max(self._left - sum(going.done for going in self._going.values()), 0.0)
        worked = self._worked + sum(going.worked for going in self._going.values())
        spent = monotonic() - self._began
        pace = worked / spent if worked > EARLY * self._whole and spent > 0 else self._pace
        tail = f"{hours(rest / pace)} left" if pace else ""
        if "" in self._bars:
            self._bar.update(self._bars[""], completed=self._whole - rest, tail=tail)
        elif monotonic() - self._spoke >= EVERY and self._whole:
            self._spoke = monotonic()
            self._say(f"  {100 * (1 - rest / self._whole):.0f} %, {tail}")

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Leave the terminal in order."""
        if self._console.is_terminal:
            self._bar.stop()


@dataclass
class Going:
    """A job that goes on.

    Attributes:
        whole: what there was to do when it started, in seconds as measured; None before it is known.
        worked: done since then.
        reused: read of what other runs trained.
        why: what went wrong.
    """

    whole: float | None = None
    worked: float = 0.0
    reused: float = 0.0
    why: str = ""
    began: float = field(default_factory=monotonic)

    @property
    def done(self) -> float:
        """Of ``whole``."""
        return self.worked + self.reused

    def hear(self, event: Event) -> None:
        """Take note of a line."""
        said = event.said
        self.whole = said.get("whole", self.whole)
        self.worked = float(said.get("done", self.worked))
        self.reused += float(said.get("reused", 0.0))
        self.why = str(said.get("error", said.get("diverged", self.why)))

    def end(self, code: int) -> str:
        """How it ended."""
        if code == 0 and not self.why:
            return f"done in {clock(monotonic() - self.began)}"
        return self.why or f"ended with status {code}"


def run_sweep(screen: Console, sweep: Sweep, dry_run: bool) -> None:
    """Run a sweep and print its tables, or only say what it would do."""
    if dry_run:
        foresee(screen, sweep)
        return
    watcher = SweepScreen(screen)
    try:
        sweep.run(watcher)
    finally:
        watcher.stop()
    for preset in sweep.presets:
        if preset.name.startswith("fig"):
            command = f"fedlease figure {preset.name.removeprefix('fig')} {sweep.folder(preset)}"
            screen.print(f"{preset.title}: {command}", highlight=False, soft_wrap=True)
        else:
            show_table(screen, [sweep.folder(preset)], None, "text", None)


def foresee(screen: Console, sweep: Sweep) -> None:
    """Print what a sweep is made of, run by run."""
    for line in plan(sweep):
        screen.print(line, highlight=False, soft_wrap=True)
    for one in sweep.known():
        screen.print(f"  {one.name}: {_rows(one)}", highlight=False)
    for one in sweep.foreseen():
        name = f"{one.spec.method['name']}-{one.spec.seed}-..."
        screen.print(f"  {name}: {_rows(one)}; learning rate not chosen yet", highlight=False)


def _rows(one: Job) -> str:
    return f"{one.work.trained:,} rows to train on, {one.work.scored:,} to score or ask the loss of"


def plan(sweep: Sweep) -> list[str]:
    """What a sweep is made of, in sentences."""
    names = ", ".join(preset.name for preset in sweep.presets)
    known, foreseen, trials = sweep.known(), sweep.foreseen(), sweep.tuning.jobs
    done = [one for one in known if one.done(sweep.store)]
    lines = [
        f"{names} ({sweep.size}): {len(known) - len(trials) + len(foreseen)} runs, and {len(trials)} trials "
        f"to choose learning rates on held-out training rows; {len(done)} are in {sweep.store} already."
    ]
    now = surroundings()["commit"]
    others = sum(Run(one.folder(sweep.store)).record["commit"] != now for one in done)
    if others:
        lines.append(f"{others} of those were made with another commit of fedlease than this one.")
    return lines
