"""The commands. Each imports what it needs when it runs, so that ``--help`` is instant."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fedlease.cli import organisations
from fedlease.cli.export import export
from fedlease.cli.predict import predict
from fedlease.cli.report import report
from fedlease.cli.route import route
from fedlease.cli.run import resume, run
from fedlease.cli.screen import console
from fedlease.cli.tune import tune
from fedlease.cli.watch import watch
from fedlease.core.errors import FedLeaseError

if TYPE_CHECKING:
    from fedlease.allocation import Distance

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Federated LoRA fine-tuning: clients with different tasks share experts (FedLEASE) and what it is "
    "compared with.",
)

for command in (predict, export, route, report, watch, tune):
    app.command()(command)

INTERRUPTED = 130
"""The exit status after Ctrl-C, which typer turns into one before it reaches `main`."""


def main() -> None:
    """Run a command; a `FedLeaseError` becomes one line and exit code 2."""
    try:
        app()
    except FedLeaseError as error:
        message = " ".join(str(error).split())
        print(f"fedlease: {message}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code != INTERRUPTED:
            raise
        print(
            "fedlease: stopped; rounds that were done are kept: 'fedlease resume DIR' goes on with a run, "
            "the same 'fedlease sweep', 'fedlease demo' or 'fedlease deploy' with theirs",
            file=sys.stderr,
        )
        sys.exit(INTERRUPTED)


@app.command()
def demo(
    data: Annotated[
        Path | None,
        typer.Option(help="A folder that holds glue/; else FEDLEASE_DATA, the hub, made-up text."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the two runs and the pictures go.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(min=0, help="Covers everything random.")] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few rows and rounds: does it work here? Scores mean nothing.")
    ] = False,
) -> None:
    """16 clients with 4 tasks on MiniLM: FedLEASE beside FedIT on the same data and seed."""
    from fedlease.cli.demo import run_demo

    run_demo(console(), data, out, seed, quick=quick)


app.command()(run)
app.command()(resume)


@app.command()
def show(
    folders: Annotated[list[Path], typer.Argument(help="Folders of runs.", metavar="DIR...")],
    picture: Annotated[Path | None, typer.Option(help="Also draw the score by round as a PNG.")] = None,
) -> None:
    """Print what a run found and what it cost; of several runs, side by side."""
    from fedlease.cli.collect import readable
    from fedlease.experiments.results import Run
    from fedlease.report.rounds_figure import rounds_figure
    from fedlease.report.summary import comparison, run_report

    records = [Run(folder).record for folder in folders]
    with readable(folders):
        console().print(run_report(records[0]) if len(records) == 1 else comparison(records))
        if picture is not None:
            rounds_figure(records, picture)


@app.command()
def figure(
    name: Annotated[str, typer.Argument(help="The figure's number in the paper: 2, 6a, or 6 for 6a to 6c.")],
    folders: Annotated[list[Path], typer.Argument(help="Folders of runs or sweeps.", metavar="DIR...")],
    out: Annotated[
        Path | None,
        typer.Option(help="A name or a folder; files already there are replaced. Else a new figNAME here."),
    ] = None,
) -> None:
    """Draw a figure of the paper from runs, as a PNG and an SVG; several seeds are averaged."""
    from fedlease.cli.figure import draw_figure

    draw_figure(console(), name, folders, out)


@app.command()
def table(
    folders: Annotated[list[Path], typer.Argument(help="Folders of runs or sweeps.", metavar="DIR...")],
    against: Annotated[
        str | None,
        typer.Option(help="The row that others are compared with; by default FedIT.", metavar="ROW"),
    ] = None,
    format_: Annotated[str, typer.Option("--format", help="text, markdown, latex or csv.")] = "text",
    out: Annotated[Path | None, typer.Option(help="Write to this file instead of printing.")] = None,
) -> None:
    """Print runs as the paper's tables: means over clients and seeds, differences with paired tests."""
    from fedlease.cli.table import show_table

    show_table(console(), folders, against, format_, out)


@app.command()
def sweep(
    names: Annotated[
        list[str], typer.Argument(help="table1 ... table8, fig2 ... fig9, others.", metavar="PRESET...")
    ],
    size: Annotated[str, typer.Option(help="small (two cores) or paper.")] = "small",
    out: Annotated[Path, typer.Option(help="Where sweeps and their common store of runs lie.")] = Path(
        "runs"
    ),
    seeds: Annotated[int | None, typer.Option(min=1, help="So many seeds, from 0; else the size's.")] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default one a core (small) or one.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Run the paper's tables and figures: what is not in the store yet; go on after any stop."""
    from fedlease.cli.sweep import run_sweep
    from fedlease.experiments.presets import find
    from fedlease.experiments.sweep import Sweep

    chosen = list(range(seeds)) if seeds else None
    options = {} if jobs is None else {"processes": jobs}
    asked = Sweep([find(name) for name in dict.fromkeys(names)], size, out, chosen, **options)
    run_sweep(console(), asked, dry_run)


app.command()(organisations.deploy)
app.command()(organisations.site)


@app.command()
def methods() -> None:
    """List the methods with their settings."""
    from rich.table import Table

    from fedlease.algorithms.registry import methods as known

    table = Table("method", "what it does", "published", "settings")
    for method in known().values():
        settings = ", ".join(f"{key}={value}" for key, value in method.options().items())
        table.add_row(method.name, method.summary, method.paper, settings)
    console().print(table)


@app.command()
def params(
    model: Annotated[str, typer.Option(help="roberta-large, llama-2-7b, minilm, smollm2, or a config.json.")],
    method: Annotated[str, typer.Option(help="A method; see 'fedlease methods'.")] = "fedlease",
    rank: Annotated[int, typer.Option(help="Rank of every LoRA adapter.")] = 4,
    experts: Annotated[int, typer.Option(help="Number of experts, where the method has some.")] = 4,
    labels: Annotated[int, typer.Option(min=1, help="Labels of the task head, for classifiers.")] = 2,
) -> None:
    """Count what one client trains, on the meta device: no weights are needed."""
    from fedlease.experiments.params import parameters

    found = parameters(model, method, rank, experts, labels)
    parts = ", ".join(f"{part} {number:,}" for part, number in found.by_part.items())
    screen = console()
    screen.print(f"base model {found.base:,}", highlight=False)
    screen.print(f"trainable  {found.trainable:,} ({parts})", highlight=False)
    screen.print(f"% Param    {found.percent:.4f} %", highlight=False)


@app.command()
def allocate(
    adapters: Annotated[list[Path], typer.Argument(help="Folders of stock PEFT LoRA adapters.")],
    max_experts: Annotated[int, typer.Option(help="The largest number of experts considered.")] = 8,
    distance: Annotated[str, typer.Option(help="product (of B A) or b (Eq. 2 of the paper).")] = "product",
    centered: Annotated[bool, typer.Option(help="Take the mean update out before comparing.")] = True,
    experts: Annotated[int | None, typer.Option(help="A fixed number of experts: none is chosen.")] = None,
    min_experts: Annotated[int, typer.Option(help="2 never takes one expert for all.")] = 1,
    picture: Annotated[
        Path | None,
        typer.Option(help="Where the picture goes, over one already there; by default a new allocation.png."),
    ] = None,
    json_: Annotated[
        bool, typer.Option("--json", help="Print JSON and nothing else; a picture only with --picture.")
    ] = False,
) -> None:
    """Tell which of these LoRA adapters belong together."""
    from fedlease.experiments.allocate import allocate as go
    from fedlease.report.allocation_figure import allocation_figure
    from fedlease.report.summary import allocation_text

    if picture is None and not json_:
        picture = Path("allocation.png")
        if picture.exists():
            raise FedLeaseError(f"{picture} is there already: say with --picture where the picture goes")
    found = go(
        [str(path) for path in adapters],
        max_experts,
        distance=cast("Distance", distance),  # checked there
        centered=centered,
        num_experts=experts,
        min_experts=min_experts,
    ).to_json()
    if picture is not None:
        allocation_figure(found, picture)
    if json_:
        print(json.dumps(found, indent=1))
        return
    screen = console()
    screen.print(allocation_text({"allocation": found}))
    screen.print(f"picture: {picture}", highlight=False, soft_wrap=True)
