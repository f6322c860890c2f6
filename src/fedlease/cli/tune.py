"""The command that measures how a model trains fastest on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from fedlease.cli.screen import console


def tune(
    model: Annotated[str, typer.Argument(help="A packaged model, a folder, or a hub id.")],
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads of a process; by default one a core.", show_default=False),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows of the batch.")] = 16,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of a row.")] = 64,
    repeats: Annotated[int, typer.Option(min=1, help="Steps that are timed of each way.")] = 5,
) -> None:
    """Measure which number format and attention kernel train fastest on this CPU; later runs take the best.

    For a quiet machine, once. It holds for this model, processor, release of torch and number of threads.
    """
    import torch
    from rich.table import Table

    from fedlease.training.measured import measure, remember
    from fedlease.training.precision import choose

    screen, count = console(), threads or torch.get_num_threads()
    with screen.status(f"{model}: {repeats} steps of each way, {rows} rows of {tokens} tokens"):
        seconds = measure(model, count, rows, tokens, repeats)
    place = remember(model, count, seconds)
    usual = choose("cpu", threads=count)
    plan = choose("cpu", threads=count, seconds=seconds)
    reference = seconds[f"{usual.precision} {usual.attention}"]
    table = Table("number format", "attention", "seconds a step", "beside the usual choice")
    for way, taken in sorted(seconds.items(), key=lambda item: item[1]):
        table.add_row(*way.split(), f"{taken:.3f}", f"{reference / taken:.2f} times as fast")
    screen.print(table)
    screen.print(
        f"Runs of {model} with {count} thread(s) take {plan.precision} with {plan.attention} attention: "
        f"{plan.why}. Written to {place}; what a specification says of precision or attention comes first.",
        highlight=False,
        soft_wrap=True,
    )
