"""What a run goes on from: the method's state, what clients keep and hold, and the record so far.

::

    checkpoint/round-0007/state.json, keeps.json, holds.json, history.json, and their tensors beside them
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from fedlease.core.codec import load_value, save_value
from fedlease.core.errors import FedLeaseError
from fedlease.core.files import flush_folder, read_json, write_json
from fedlease.core.protocols import ClientId
from fedlease.core.weights import Weights
from fedlease.engines.shelf import Shelf
from fedlease.experiments.holdings import Holdings
from fedlease.experiments.keepings import Keepings


@dataclass
class History:
    """The part of a record that grows: one entry a round, and one for each time the run was started."""

    rounds: list[dict[str, Any]] = field(default_factory=list)
    sessions: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Checkpoint:
    """Everything a run goes on from after ``round`` rounds.

    Attributes:
        round: rounds done.
        state: the method's.
        kept: every client's private memory, or what names it.
        history: what the record tells so far.
        holds: the digests of what every client holds of what it was sent, which is not sent again.
    """

    round: int
    state: Any
    kept: Mapping[ClientId, Weights]
    history: History
    holds: Mapping[ClientId, Weights] = field(default_factory=dict)


@dataclass(frozen=True)
class _Kept:
    """What clients keep as checkpoints had it before `Keepings`."""

    round: int
    weights: dict[ClientId, dict[str, Tensor]]


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Make a checkpoint in a run's folder: written beside, renamed into place, older ones removed.

    Raises:
        FedLeaseError: it cannot be written; the one before stays.
    """
    final = _place(folder, checkpoint.round)
    partial = final.with_name(f".{final.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_value(checkpoint.state, partial, "state")
        save_value(Keepings.of(checkpoint.round, checkpoint.kept), partial, "keeps")
        save_value(Holdings.of(checkpoint.holds), partial, "holds")
        write_json(partial / "history.json", asdict(checkpoint.history))
        partial.rename(final)
        flush_folder(final.parent)
        for older in checkpoints(folder)[:-1]:
            shutil.rmtree(older)
    except OSError as error:
        raise FedLeaseError(f"cannot write the checkpoint {final}: {error.strerror}") from error


def read_last(folder: Path, kind: type[Any]) -> Checkpoint | None:
    """Read the last checkpoint in a run's folder; None before the first.

    Args:
        folder: of the run.
        kind: what the method's state is.

    Raises:
        FedLeaseError: it is damaged, or was written by another method.
    """
    there = checkpoints(folder)
    if not there:
        return None
    if (there[-1] / "keeps.json").is_file():
        together = load_value(Keepings, there[-1], "keeps", mapped=True)
        shelf = Shelf(folder)
        round = together.round
        kept = {client: shelf.put(own) for client, own in together.apart()}
    else:  # a run of before
        before = load_value(_Kept, there[-1], "kept")
        round, kept = before.round, dict(before.weights)
    holds = {}
    if (there[-1] / "holds.json").is_file():  # a run of before has none: all is sent once more
        holds = load_value(Holdings, there[-1], "holds").apart()
    history = History(**read_json(there[-1] / "history.json"))
    state = load_value(kind, there[-1], "state")
    return Checkpoint(round, state, kept, history, holds)


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a run's folder, the last one last."""
    return sorted((folder / "checkpoint").glob("round-*"))


def _place(folder: Path, round: int) -> Path:
    return folder / "checkpoint" / f"round-{round:06d}"
