"""``fedlease watch``: a run that goes on in another process, as it goes on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from fedlease.cli.screen import console

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

LOOK = 0.5
"""Seconds between two looks."""


class Page(Protocol):
    """What is watched: a run, or several."""

    def look(self) -> bool:
        """Look anew; tell whether there is more to come."""

    def view(self, height: int | None) -> RenderableType:
        """Draw all of it, in so many lines if they are limited."""

    def lines(self) -> list[str]:
        """What is new since the last call, for where there is no terminal."""

    def verdict(self) -> str:
        """How it ended, in a line.

        Raises:
            FedLeaseError: it is not complete; why, and what to do.
        """


def watch(
    folder: Annotated[
        Path, typer.Argument(help="The folder of a run, a trial or a sweep, or of several.", metavar="RUN")
    ],
    once: Annotated[bool, typer.Option("--once", help="Show how it stands now, and leave.")] = False,
) -> None:
    """Look on while a run goes on in another process: rounds, clients, scores, experts, time left.

    It ends with the run; Ctrl-C only stops looking.
    """
    from fedlease.cli.collect import readable
    from fedlease.cli.watch_pages import page_of

    screen = console()
    try:
        with readable([folder]):
            page = page_of(folder)
            more = page.look()
            if once:
                screen.print(page.view(None))
            elif screen.is_terminal:
                _live(screen, page, more)
            else:
                _plain(screen, page, more)
            if not (once and more):
                screen.print(page.verdict(), highlight=False, soft_wrap=True, markup=False)
    except KeyboardInterrupt:
        screen.print("no longer watched; what runs goes on", highlight=False)


def _live(screen: Console, page: Page, more: bool) -> None:
    """Draw it again and again in one place."""
    from rich.live import Live

    with Live(console=screen, auto_refresh=False) as live:
        while True:
            live.update(page.view(screen.size.height - 1 if more else None), refresh=True)
            if not more:
                return
            time.sleep(LOOK)
            more = page.look()


def _plain(screen: Console, page: Page, more: bool) -> None:
    """Print what is new, a line each."""
    while True:
        for line in page.lines():
            screen.print(line, highlight=False, soft_wrap=True, markup=False)
        if not more:
            return
        time.sleep(LOOK)
        more = page.look()
