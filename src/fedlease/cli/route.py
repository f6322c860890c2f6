"""``fedlease route``: which part of a run fits new data."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from fedlease.cli.predict import Moved, RunFolder
from fedlease.cli.screen import console


def route(
    run: RunFolder,
    data: Annotated[Path, typer.Option(help="Labelled rows: JSONL, CSV or Parquet.", metavar="FILE")],
    text: Annotated[
        list[str] | None, typer.Option(help="A column of text; once or twice. Else a client's columns.")
    ] = None,
    label: Annotated[str, typer.Option(help="With --text: the column of the label.")] = "label",
    labels: Annotated[
        list[str] | None, typer.Option(help="With --text: a label's name; once for each, in their order.")
    ] = None,
    prompt: Annotated[list[str] | None, typer.Option(help="For generation: a column of the prompt.")] = None,
    answer: Annotated[str | None, typer.Option(help="With --prompt: the column of the answer.")] = None,
    messages: Annotated[str | None, typer.Option(help="For generation: the column of a chat.")] = None,
    model: Moved = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Find what fits a new client's data without training: an expert, their mixture, or a client's model."""
    from fedlease.use.finished import open_run
    from fedlease.use.labelled import Columns, read_labelled
    from fedlease.use.route import route as go

    columns = None
    if text or prompt or answer or messages:
        columns = Columns(
            tuple(text or ()), label, tuple(labels or ()), tuple(prompt or ()), answer, messages
        )
    finished = open_run(run, model)
    table = read_labelled(finished, data, columns)
    found = go(finished, table, lambda name: print(f"scoring {name}", file=sys.stderr))
    if json_:
        print(json.dumps(found.to_json(), indent=1))
        return
    from rich.table import Table

    shown = Table("what", "loss", f"{found.metric} (%)", title=f"{data.name}: {found.rows:,} rows")
    for fit in found.fits:
        shown.add_row(fit.name, f"{fit.loss:.3f}", f"{100 * fit.metrics[found.metric]:.1f}")
    screen = console()
    screen.print(shown)
    screen.print(found.answer, highlight=False, soft_wrap=True)
    best = found.fits[0]
    if best.clients:
        screen.print(f"fedlease predict {run} --client {best.clients[0]}", highlight=False, soft_wrap=True)
