"""Runs of a sweep in a common store: each under a name made of its spec, so that no run is done twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fedlease import __version__
from fedlease.algorithms.registry import defaults_of
from fedlease.core.errors import FedLeaseError
from fedlease.core.files import read_json
from fedlease.experiments.pace import Pace
from fedlease.experiments.results import Run
from fedlease.experiments.spec import Spec, make_spec
from fedlease.experiments.work import Work, work

DIVERGED = "diverged.json"
"""What a run leaves in its folder when its training left the finite numbers."""


@dataclass(frozen=True)
class Job:
    """A run to be in the store.

    Attributes:
        name: of its folder: method, seed and a hash of everything its result depends on.
        spec: the run.
    """

    name: str
    spec: Spec

    @cached_property
    def work(self) -> Work:
        """How much it will train and score."""
        return work(self.spec)

    def folder(self, store: Path) -> Path:
        """Where it lies."""
        return store / self.name

    def rounds(self, store: Path) -> int:
        """Rounds done."""
        folder = self.folder(store)
        return len(Run(folder).record["rounds"]) if (folder / "record.json").is_file() else 0

    def diverged(self, store: Path) -> str | None:
        """Why its training broke off, if it did."""
        path = self.folder(store) / DIVERGED
        told = read_json(path) if path.is_file() else {}
        return str(told.get("error")) if told.get("version") == __version__ else None

    def done(self, store: Path) -> bool:
        """Whether it is complete.

        Raises:
            FedLeaseError: its record is of another version of fedlease, or of other settings.
        """
        folder = self.folder(store)
        if not (folder / "record.json").is_file():
            return False
        record = Run(folder).record
        found = record["versions"].get("fedlease")
        if found != __version__:
            raise FedLeaseError(
                f"{folder / 'record.json'} is from fedlease {found} and this is {__version__}: "
                f"choose another --out, or remove {store}"
            )
        check_settings(folder, record["spec"], self.spec)
        return bool(record["status"] == "complete")


def job(values: Mapping[str, Any], rate: float, seed: int | None = None) -> Job:
    """Make a job of a preset's plain values, with a learning rate and a seed.

    Raises:
        FedLeaseError: the values are not a spec.
    """
    training = {**values.get("training", {}), "learning_rate": rate}
    seeded = values if seed is None else {**values, "seed": seed}
    spec = make_spec({**seeded, "training": training}, "preset")
    name = f"{spec.method['name']}-{spec.seed}-{identity(spec)}"
    return Job(name, spec.model_copy(update={"name": name}))


def identity(spec: Spec) -> str:
    """A hash of all that a run's result depends on and that is not a default.

    So a setting that a later version adds leaves it as it is; that defaults have not changed is found by
    `check_settings`. The run's name and the place of its data are left out.
    """
    content = spec.model_dump(mode="json", exclude={"name", "method"}, exclude_defaults=True)
    content["data"] = {key: value for key, value in content.get("data", {}).items() if key != "root"}
    usual = defaults_of(type(spec.algorithm()))
    said = {key: value for key, value in spec.settings().items() if key == "name" or value != usual[key]}
    text = json.dumps({**content, "method": said}, sort_keys=True, default=dict)
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()


def check_settings(folder: Path, there: Mapping[str, Any], spec: Spec) -> None:
    """Refuse a run whose settings are not those of this spec, where both have them.

    Raises:
        FedLeaseError: naming the first key that differs.
    """
    now = json.loads(json.dumps({**spec.model_dump(mode="json"), "method": spec.settings()}, default=dict))
    for key in ("name", "data"):
        now.pop(key)
    different = _difference(there, now)
    if different:
        raise FedLeaseError(f"{folder} was made with another {different}: choose another --out")


def _difference(there: Any, now: Any, key: str = "") -> str | None:
    """The first dotted key under which both have something, and not the same."""
    if isinstance(there, Mapping) and isinstance(now, Mapping):
        shared = [name for name in now if name in there]
        found = (_difference(there[name], now[name], f"{key}.{name}".lstrip(".")) for name in shared)
        return next((name for name in found if name), None)
    if isinstance(there, list) and isinstance(now, list) and len(there) == len(now):
        pairs = enumerate(zip(there, now, strict=True))
        found = (_difference(one, other, f"{key}.{place}") for place, (one, other) in pairs)
        return next((name for name in found if name), None)
    return None if there == now else key


def left(jobs: Iterable[Job], store: Path, begun: Mapping[str, int], pace: Pace) -> float:
    """What is left of these jobs, in seconds of one process; a training that several share counts once.

    Of jobs that go on, ``begun`` has the rounds that were done when they started, by name: what they did
    since then is not taken off.
    """
    seconds, seen = 0.0, set[str]()
    for one in sorted(jobs, key=lambda one: not one.done(store)):  # what is done has shared its trainings
        shared = one.work.shared
        if not one.done(store) and not one.diverged(store):
            costs = pace.costs(one.spec)
            rest = one.work.seconds(costs) * (1 - begun.get(one.name, one.rounds(store)) / one.spec.rounds)
            known = [costs[group, "train"] * rows for key, (group, rows) in shared.items() if key in seen]
            seconds += max(rest - sum(known), 0.0)
        seen |= shared.keys()
    return seconds
