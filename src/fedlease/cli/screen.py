"""The terminal that commands print to."""

from __future__ import annotations

from rich.console import Console


def console() -> Console:
    """The terminal; wide where there is none, so that files and pipes get whole lines."""
    found = Console()
    return found if found.is_terminal else Console(width=140)
