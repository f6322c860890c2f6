"""What a sweep leaves behind beside its runs: which run is which entry of a table or figure.

::

    sweep.json   {"format": 1, "preset": "table1", "size": "small", "title": "...",
                  "runs": [{"row": "FedIT", "section": "", "seed": 0, "folder": "../store/fedit-0-1a2b3c4d"}],
                  "rates": {"fedit": {"chosen": 0.003, "scores": {"0.001": 0.61, "0.003": 0.64}}}}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fedlease import __version__
from fedlease.core.errors import FedLeaseError
from fedlease.core.files import make_folder, read_json, write_json

FORMAT = 1
NAME = "sweep.json"


@dataclass(frozen=True)
class Place:
    """Where a run stands in a table or figure.

    Attributes:
        row: what the run is called there.
        section: which part it belongs to, where there are several side by side; else empty.
        seed: its seed.
        folder: its folder, relative to the manifest's.
    """

    row: str
    section: str
    seed: int
    folder: str


@dataclass(frozen=True)
class Tuned:
    """How a learning rate was chosen.

    Attributes:
        chosen: the rate; None when training diverged at every one.
        scores: of every rate that was tried, on held-out training rows; None where training diverged.
    """

    chosen: float | None
    scores: Mapping[str, float | None]


@dataclass(frozen=True)
class Manifest:
    """The runs of a sweep, in the order of its table.

    Attributes:
        preset: ``"table1"`` ... ``"fig9"``.
        size: ``"small"`` or ``"paper"``.
        title: what the table or figure shows.
        runs: every run with its place.
        rates: the learning rates, by the name that runs take them under.
    """

    preset: str
    size: str
    title: str
    runs: Sequence[Place]
    rates: Mapping[str, Tuned] = field(default_factory=dict)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``sweep.json`` into a folder that is made if it is not there.

    Raises:
        FedLeaseError: it cannot be written.
    """
    make_folder(folder)
    write_json(folder / NAME, {"format": FORMAT, **asdict(manifest)})


def read_manifest(folder: Path) -> Manifest | None:
    """Read the manifest of a sweep; None where the folder holds none.

    Raises:
        FedLeaseError: it is of another format, or damaged.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    value: Any = read_json(path)
    found = value.get("format") if isinstance(value, dict) else None
    if found != FORMAT:
        raise FedLeaseError(f"{path} has format {found}; fedlease {__version__} reads {FORMAT}")
    try:
        runs = tuple(Place(**run) for run in value["runs"])
        rates = {key: Tuned(**tuned) for key, tuned in value.get("rates", {}).items()}
        return Manifest(value["preset"], value["size"], value["title"], runs, rates)
    except (KeyError, TypeError) as error:
        raise FedLeaseError(f"{path} is not the manifest of a sweep: {error}") from error
