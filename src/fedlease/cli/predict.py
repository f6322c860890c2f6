"""``fedlease predict``: JSON lines in, JSON lines out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from fedlease.core.errors import FedLeaseError

RunFolder = Annotated[Path, typer.Argument(help="The folder of a finished run.", metavar="RUN")]
Client = Annotated[str, typer.Option(help="Whose model.")]
Moved = Annotated[
    str | None,
    typer.Option("--model", help="Where the base model lies, if it has moved."),
]


def predict(
    run: RunFolder,
    client: Client,
    input_: Annotated[
        Path | None,
        typer.Option("--input", help="Rows as JSON lines; else standard input.", metavar="FILE.jsonl"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A new file for the predictions; else standard output.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Tell the experts used, module by module.")
    ] = False,
    model: Moved = None,
) -> None:
    """Predict labels with probabilities, or write texts, with a client's model."""
    from fedlease.core.files import write_lines
    from fedlease.use.finished import open_run
    from fedlease.use.predict import Predictor
    from fedlease.use.rows import read, sources

    if out is not None and out.exists():
        raise FedLeaseError(f"{out} is there already: choose another --out")
    finished = open_run(run, model)
    predictor = Predictor(finished, client, explain=explain)
    with ExitStack() as stack:
        if input_ is None:
            lines, name = sys.stdin.buffer, "standard input"
        else:
            lines, name = stack.enter_context(_opened(input_)), str(input_)
        found = predictor.over(read(lines, name, sources(finished, client)))
        told = (json.dumps(one, ensure_ascii=False) for one in found)
        if out is not None:
            write_lines(out, told)
        else:
            _print(told)
    longest = finished.spec.model.max_length
    cut = f", {predictor.cut} of them cut to {longest} tokens" if predictor.cut else ""
    print(f"{predictor.rows:,} rows{cut}", file=sys.stderr)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise FedLeaseError(f"cannot read {path}: {error.strerror}") from error


def _print(lines: Iterator[str]) -> None:
    """Print lines; a reader that has had enough, such as ``head``, ends it quietly."""
    try:
        for line in lines:
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
