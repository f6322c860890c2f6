"""``fedlease figure``: which figures are drawn from which runs, and where they go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fedlease.cli.collect import chosen, collect, waiting
from fedlease.core.errors import FedLeaseError
from fedlease.report.canvas import FORMATS
from fedlease.report.figures.registry import Picture, find
from fedlease.report.gather import described, is_complete


def draw_figure(screen: Console, name: str, folders: Sequence[Path], out: Path | None) -> None:
    """Draw a figure, or all parts of one that the runs allow, each as a PNG and an SVG.

    Args:
        screen: told what was written, and what was left out and why: parts, and runs that are not complete.
        name: such as ``"6a"``; ``"6"`` is every part.
        folders: runs, or folders of sweeps.
        out: the file to write, with or without its ending; where there are several parts, their letters are
            added to it. An existing folder is one to write into. None is ``fig6a`` here, where no file of
            that name may be yet.

    Raises:
        FedLeaseError: no such figure, runs it cannot be drawn from, or a place that cannot be written.
    """
    pictures, folders = find(name), chosen(folders)
    found = collect(folders)
    entries = [entry for entry in found if is_complete(entry)]
    going = [described(entry) for entry in found if not is_complete(entry)]
    going += [f"{run}: not begun" for run in waiting(folders)]
    if not entries:
        raise FedLeaseError(f"figure {name}: no run is complete ({'; '.join(going)})")
    places = {picture.name: _place(picture, out, alone=len(pictures) == 1) for picture in pictures}
    if out is None:
        for stem in places.values():
            _check_free(stem)
    written, refused = [], []
    for picture in pictures:
        try:
            written.append((picture, *picture.write(entries, places[picture.name])))
        except FedLeaseError as error:
            if len(pictures) == 1 or not places[picture.name].parent.is_dir():
                raise
            refused.append(str(error))
    if not written:
        raise FedLeaseError("; ".join(refused))
    for reason in [*(f"left out: {run}" for run in going), *refused]:
        screen.print(f"note: {reason}", highlight=False, soft_wrap=True)
    for picture, png, svg in written:
        screen.print(f"figure {picture.name}, {picture.title}: {png}, {svg}", highlight=False, soft_wrap=True)


def _place(picture: Picture, out: Path | None, alone: bool) -> Path:
    """The path without its ending."""
    if out is None or out.is_dir():
        return (out or Path()) / f"fig{picture.name}"
    stem = out.with_suffix("") if out.suffix.lower() in {f".{kind}" for kind in FORMATS} else out
    letter = "" if alone else picture.name.lstrip("0123456789")
    return stem.with_name(stem.name + letter)


def _check_free(stem: Path) -> None:
    for kind in FORMATS:
        path = stem.with_name(f"{stem.name}.{kind}")
        if path.exists():
            raise FedLeaseError(f"{path} is there already: say with --out where the figure goes")
