"""``fedlease report``: runs as one page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedlease.cli.screen import console
from fedlease.core.errors import FedLeaseError

NAME = "report.html"


def report(
    folders: Annotated[list[Path], typer.Argument(help="Folders of runs or sweeps.", metavar="DIR...")],
    out: Annotated[
        Path, typer.Option(help="The file to write, or a folder; a report already there is replaced.")
    ] = Path(NAME),
    force: Annotated[bool, typer.Option("--force", help="Also replace a file that is no report.")] = False,
) -> None:
    """Write runs as one HTML page that needs no network: scores, clients, experts, costs, what is missing."""
    from fedlease import __version__
    from fedlease.cli.collect import chosen, collect, title_of, waiting
    from fedlease.core.files import write_bytes
    from fedlease.report.gather import described, is_complete
    from fedlease.report.page import make_page

    place = out / NAME if out.is_dir() else out
    _check_free(place, force)
    different = list({folder.resolve(): folder for folder in chosen(folders)}.values())
    entries, begun = collect(different), waiting(different)
    if not entries:
        raise FedLeaseError(f"there is no report: no run has a record yet ({'; '.join(begun)})")
    title = "" if len(different) > 1 else title_of(different)
    content = make_page(entries, title, begun, __version__).encode()
    write_bytes(place, content)
    screen = console()
    for entry in entries:
        if not is_complete(entry):
            screen.print(
                f"note: not complete, shown as far as it came: {described(entry)}",
                highlight=False,
                soft_wrap=True,
                markup=False,
            )
    for run in begun:
        screen.print(f"note: not begun: {run}", highlight=False, soft_wrap=True, markup=False)
    runs = "1 run" if len(entries) == 1 else f"{len(entries)} runs"
    screen.print(
        f"report of {runs}: {place} ({len(content) / 1000:,.0f} kB)",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )


def _check_free(place: Path, force: bool) -> None:
    """Refuse to replace a file that is no report."""
    from fedlease.core.files import read_bytes
    from fedlease.report.page import is_report

    if place.exists() and not force and not is_report(read_bytes(place)):
        raise FedLeaseError(
            f"{place} is there already and is no report: say with --out where it goes, or --force"
        )
