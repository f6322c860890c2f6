"""``fedlease export``: a client's model as a folder for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedlease.cli.predict import Client, Moved, RunFolder
from fedlease.cli.screen import console
from fedlease.core.errors import FedLeaseError


def export(
    run: RunFolder,
    client: Client,
    form: Annotated[
        str,
        typer.Option(
            "--as", help="fedlease (the mixture), experts (stock LoRA each) or lora (one stock LoRA)."
        ),
    ],
    rank: Annotated[
        int | None, typer.Option(help="Of the one LoRA; 16 for a mixture, else the adapter's own.")
    ] = None,
    fit: Annotated[
        str,
        typer.Option(help="The one LoRA for a mixture: tokens (nearest on the training tokens) or mean."),
    ] = "tokens",
    out: Annotated[
        Path | None, typer.Option(help="A new folder; by default RUN-CLIENT-FORM here.", metavar="DIR")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="What the folder calls its base model; by default its hub id, else its path."),
    ] = None,
    push_to_hub: Annotated[
        str | None,
        typer.Option(help="Also upload it to this repository; a new one is private.", metavar="REPO"),
    ] = None,
    model: Moved = None,
) -> None:
    """Write a client's model as PEFT folders, with a model card."""
    from fedlease.use.export import base_name
    from fedlease.use.export import export as go
    from fedlease.use.finished import open_run
    from fedlease.use.push import push

    finished = open_run(run, model)
    name = base or base_name(finished)
    if push_to_hub is not None and Path(name).is_dir():
        raise FedLeaseError(f"nobody else has {name}: say with --base what the base model is called")
    folder = out or Path(f"{run.resolve().name}-{client}-{form}")
    done = go(finished, client, form, folder, rank=rank, fit=fit, base=name)
    screen = console()
    screen.print(f"wrote {folder}", highlight=False, soft_wrap=True)
    screen.print(done.sentence, highlight=False, soft_wrap=True)
    if push_to_hub is not None:
        screen.print(f"uploaded to {push(folder, push_to_hub)}", highlight=False, soft_wrap=True)
