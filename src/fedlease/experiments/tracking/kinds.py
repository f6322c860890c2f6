"""Which trackers there are, and how accelerate's are made for a run."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fedlease.core.errors import FedLeaseError
from fedlease.experiments.store import TRACKERS

PROJECT = "fedlease"
"""Under which Weights & Biases and MLflow list runs, where their environment variables name nothing else."""


@dataclass
class Place:
    """Where a tracker is with a run.

    Attributes:
        logged: rounds it was told.
        run: what it calls the run; None where it needs no name.
        begun: whether it knows the hyperparameters.
        complete: whether it knows all there is.
    """

    logged: int = 0
    run: str | None = None
    begun: bool = False
    complete: bool = False


def _tensorboard(folder: Path, place: Place) -> Any:
    from accelerate.tracking import TensorBoardTracker

    # what an earlier process wrote of later rounds and was killed over is void
    return TensorBoardTracker("tensorboard", folder / TRACKERS, purge_step=place.logged + 1)


def _wandb(folder: Path, place: Place) -> Any:
    from accelerate.tracking import WandBTracker

    place.run = place.run or uuid.uuid4().hex[:12]
    return WandBTracker(
        os.environ.get("WANDB_PROJECT", PROJECT),
        id=place.run,
        name=folder.resolve().name,
        resume="allow",
        dir=str(folder / TRACKERS),
        settings={"console": "off", "silent": True},
    )


def _mlflow(folder: Path, place: Place) -> Any:
    from accelerate.tracking import MLflowTracker

    return MLflowTracker(PROJECT, run_id=place.run, run_name=folder.resolve().name)


KNOWN: dict[str, tuple[str, Callable[[Path, Place], Any]]] = {
    "tensorboard": ("torch.utils.tensorboard", _tensorboard),
    "wandb": ("wandb", _wandb),
    "mlflow": ("mlflow", _mlflow),
}
"""Of every tracker what is imported, and how accelerate's is made for a run."""


def check(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of trackers, each once, if they are known and installed.

    Raises:
        FedLeaseError: one is not.
    """
    found = tuple(dict.fromkeys(names))
    for name in found:
        if name not in KNOWN:
            raise FedLeaseError(f"there is no tracker {name!r}; there are: {', '.join(KNOWN)}")
        if find_spec(name) is None or find_spec("accelerate") is None:
            raise FedLeaseError(f"{name} is not installed: pip install 'fedlease[{name}]'")
    return found


def prepare(name: str) -> None:
    """Import what a tracker needs, in the thread of the run: imports of two threads may wait for each other.

    Raises:
        Exception: whatever there is to say against it.
    """
    from accelerate import PartialState

    import_module(KNOWN[name][0])
    PartialState()  # the trackers ask it which process they are in
