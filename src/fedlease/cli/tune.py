"""The command that measures how a model trains fastest on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from fedlease.cli.screen import console

if TYPE_CHECKING:
    from rich.table import Table

    from fedlease.training.precision import Timings


def tune(
    model: Annotated[str, typer.Argument(help="A packaged model, a folder, or a hub id.")],
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads of a process; by default one a core.", show_default=False),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Most rows of the batch of the first table.")] = 16,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of a row.")] = 64,
    repeats: Annotated[int, typer.Option(min=1, help="How often each way is timed.")] = 5,
) -> None:
    """Measure how this CPU computes a model fastest, anew: later runs take it where a spec leaves it open.

    Number format, attention kernel, and how many rows go through the model at once, on one layer of it. Runs
    do so by themselves, once; this is to look at it, or to do it again on a quiet machine.
    """
    import torch

    from fedlease.training.measured import measure
    from fedlease.training.precision import choose
    from fedlease.training.timings import remember

    screen, count = console(), threads or torch.get_num_threads()
    with screen.status(f"{model}: measuring") as status:
        timings = measure(
            model,
            count,
            rows=rows,
            tokens=tokens,
            repeats=repeats,
            score=True,
            tell=lambda what: status.update(f"{model}: {what}"),
        )
    place = remember(model, count, timings)
    usual, plan = choose("cpu", threads=count), choose("cpu", threads=count, timings=timings)
    screen.print(_ways(timings.step, usual.way))
    if timings.train:
        screen.print(_sizes(timings))
    screen.print(
        f"Runs of {model} with {count} thread(s) take {plan.precision} with {plan.attention} attention: "
        f"{plan.why}. {_batches(timings)} Written to {place}; what a specification says comes first.",
        highlight=False,
        soft_wrap=True,
    )


def _batches(timings: Timings) -> str:
    """What becomes of training batches, and what may be said of scoring ones."""
    from fedlease.training.loop import Training
    from fedlease.training.precision import MARGIN, choose

    cut = {
        size: rows
        for size in timings.train
        if (rows := choose("cpu", timings=timings, batch_size=size).train_rows)
    }
    said = [f"Of training batches of {size} rows {rows} go through at once." for size, rows in cut.items()]
    usual, score = Training().score_batch_size, timings.score
    best = min(score, key=lambda rows: (score[rows], rows), default=usual)
    if usual in score and score[usual] >= MARGIN * score[best]:
        said.append(
            f"Scoring is {score[usual] / score[best]:.1f} times as fast with "
            f"training.score_batch_size = {best}."
        )
    return " ".join(said or ["Whole training batches go through at once."])


def _ways(step: Mapping[str, float], usual: str) -> Table:
    from rich.table import Table

    table = Table("number format", "attention", "milliseconds a step", "beside the usual choice")
    for way, taken in sorted(step.items(), key=lambda item: item[1]):
        beside = f"{step[usual] / taken:.2f} times as fast" if usual in step else ""
        table.add_row(*way.split(), f"{1000 * taken:.1f}", beside)
    return table


def _sizes(timings: Timings) -> Table:
    from rich.table import Table

    table = Table("rows at once", "training, ms a row", "scoring, ms a row")
    for size, taken in timings.train.items():
        table.add_row(str(size), f"{1000 * taken:.2f}", f"{1000 * timings.score[size]:.2f}")
    return table
