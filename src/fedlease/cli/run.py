"""``fedlease run`` and ``fedlease resume``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedlease.cli.engines import Address, Asked, Cpus, Engine, cleaned_up

Out = Annotated[Path | None, typer.Option("--out", help="The folder to make; by default under runs/.")]
RunFolder = Annotated[Path, typer.Argument(help="The folder of a run.", metavar="DIR")]
Track = Annotated[
    list[str] | None,
    typer.Option("--track", help="tensorboard, wandb or mlflow; again for another.", metavar="TRACKER"),
]


def run(
    spec: Annotated[Path, typer.Argument(help="A TOML specification.", metavar="SPEC.toml")],
    out: Out = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key: method.rank=8", metavar="KEY=VALUE")
    ] = None,
    track: Track = None,
    engine: Engine = None,
    ray_address: Address = None,
    ray_cpus: Cpus = None,
) -> None:
    """Run a federation from its specification: in this process, or with --engine ray on a Ray cluster."""
    carrier = Asked(engine, ray_address, ray_cpus).carrier()
    from fedlease.cli.live import report, shown
    from fedlease.experiments.run import run as go

    with cleaned_up(carrier), shown() as (screen, live):
        run = go(spec, out, overrides=set_ or (), observer=live, track=track or (), engine=carrier)
        report(screen, run)


def resume(
    folder: RunFolder,
    rounds: Annotated[
        int | None, typer.Option("--rounds", help="So many rounds in all, also after the run's end.", min=1)
    ] = None,
    track: Track = None,
    engine: Engine = None,
    ray_address: Address = None,
    ray_cpus: Cpus = None,
) -> None:
    """Go on with a run that was stopped, or for more rounds; the result equals that of a run never stopped.

    Trackers that followed it go on with it. The engine is the one it began with, or another.
    """
    carrier = Asked(engine, ray_address, ray_cpus).goes_on(folder)
    from fedlease.cli.live import report, shown
    from fedlease.experiments.run import resume as go

    with cleaned_up(carrier), shown() as (screen, live):
        report(screen, go(folder, rounds=rounds, observer=live, track=track or (), engine=carrier))
