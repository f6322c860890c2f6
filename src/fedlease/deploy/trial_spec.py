"""The specification of a trial on one machine: that of a run, with as many clients as there are sites."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w

from fedlease.core.errors import FedLeaseError
from fedlease.core.files import write_bytes
from fedlease.experiments.spec import Spec, make_spec


def for_sites(spec: Spec, sites: int) -> Spec:
    """Return the spec with so many clients: of every entry in turn one, until there are enough.

    Raises:
        FedLeaseError: there are fewer clients than that.
    """
    if sites > len(spec.ids):
        raise FedLeaseError(f"--sites is {sites}, and the specification has {len(spec.ids)} clients")
    if sites == len(spec.ids):
        return spec
    taken = [0] * len(spec.clients)
    while sum(taken) < sites:
        for index, entry in enumerate(spec.clients):
            if taken[index] < len(entry.ids) and sum(taken) < sites:
                taken[index] += 1
    told = spec.model_dump(mode="json", exclude_unset=True)
    told["clients"] = [
        entry if spec.clients[index].count is None else {**entry, "count": count}
        for index, (entry, count) in enumerate(zip(told["clients"], taken, strict=True))
        if count
    ]
    return make_spec(told, "--sites")


def write_spec(spec: Spec, beside: Path, path: Path) -> None:
    """Write a spec as TOML that means the same from any folder: paths are made absolute."""
    told = spec.model_dump(mode="json", exclude_unset=True)
    for entry in told["clients"]:
        for key in ("train", "test"):
            if entry.get(key):
                entry[key] = str((beside / entry[key]).resolve())
    if (beside / spec.model.name).is_dir():
        told["model"]["name"] = str((beside / spec.model.name).resolve())
    if spec.data.root is not None:
        told["data"]["root"] = str((beside / spec.data.root).resolve())
    write_bytes(path, tomli_w.dumps(_without_none(told)).encode())


def _without_none(value: Any) -> Any:
    """TOML has no word for nothing; a key that is left out means its default, and that is what is meant."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value
