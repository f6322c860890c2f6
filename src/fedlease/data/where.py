"""Where a demonstration takes its data from: a folder, the Hugging Face hub, or texts made on the spot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedlease.core.errors import FedLeaseError
from fedlease.data.catalog import GLUE
from fedlease.data.hub import HUB, offline, unreachable

VARIABLE = "FEDLEASE_DATA"


@dataclass(frozen=True)
class Location:
    """Where data is.

    Attributes:
        kind: which of the three.
        root: the folder for `sources.load`; None for the hub and for generated texts.
        sentence: which one it is and why, for people.
    """

    kind: Literal["folder", "hub", "generated"]
    root: Path | None
    sentence: str


def locate(
    data: Path | None, env: Mapping[str, str], probe: Callable[[str], str | None] | None = None
) -> Location:
    """Choose where data comes from: ``data``, else FEDLEASE_DATA, else the hub, else generated texts.

    It takes about three seconds at most, whatever the network does.

    Args:
        data: the folder the user named, if any.
        env: the environment; HF_HUB_OFFLINE, HF_DATASETS_OFFLINE and HF_ENDPOINT are respected.
        probe: given the hub's address, returns None when it answers, else why not; `unreachable` by default.

    Raises:
        FedLeaseError: a folder that was named does not exist or is not laid out as it must be.
    """
    if data is not None:
        return Location("folder", _checked(data, "--data"), f"Data: the folder {data}, named by --data.")
    if env.get(VARIABLE):
        root = _checked(Path(env[VARIABLE]), VARIABLE)
        return Location("folder", root, f"Data: the folder {root}, named by {VARIABLE}.")
    reason = offline(env) or (probe or unreachable)(env.get("HF_ENDPOINT") or HUB)
    nameless = f"no folder was named (--data or {VARIABLE})"
    if reason is None:
        return Location("hub", None, f"Data: GLUE from the Hugging Face hub, because {nameless}.")
    return Location(
        "generated",
        None,
        f"Data: small generated text tasks, because {nameless} and {reason}.",
    )


def check_glue(env: Mapping[str, str]) -> None:
    """Refuse to begin where GLUE is neither in a folder nor on a hub that answers.

    Raises:
        FedLeaseError: it says where to put the data.
    """
    if locate(None, env).kind == "generated":
        raise FedLeaseError(
            f"GLUE is not here and the hub does not answer: name a folder in {VARIABLE} that holds {_LAYOUT}"
        )


def _checked(root: Path, named_by: str) -> Path:
    if not root.is_dir():
        raise FedLeaseError(f"{named_by}: there is no folder {root}; name one that holds {_LAYOUT}")
    if not any((root / str(source.train)).is_file() for source in GLUE.values()):
        raise FedLeaseError(f"{named_by}: the folder {root} has no task in it; expected is {_LAYOUT}")
    return root


_LAYOUT = f"glue/TASK/train.jsonl and glue/TASK/dev.jsonl, with {', '.join(GLUE)} for TASK"
