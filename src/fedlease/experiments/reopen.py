"""A run found again: where its model and data lie now, and whether they are still the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedlease.core.errors import FedLeaseError
from fedlease.experiments.places import Places, settle
from fedlease.experiments.spec import Spec, make_spec
from fedlease.experiments.store import Store
from fedlease.training.precision import choose


def reopen(store: Store, *, anywhere: bool = False) -> tuple[Spec, Places]:
    """Return a run's spec and the places it was settled on; what has moved is looked for again.

    Args:
        store: the run's folder.
        anywhere: compute on the best device that is here, with as many threads as torch likes unless the
            spec says how many; else exactly as the run did.

    Raises:
        FedLeaseError: not a run, or a device that is not here.
    """
    resolved = store.resolved()
    spec = make_spec(resolved["spec"], str(store.folder / "spec.json"))
    root, plan = resolved["root"], resolved["plan"]
    if root is not None and not Path(root).is_dir():  # moved: rows are known by their hash
        root = settle(spec, Path(resolved["beside"])).root
    model = resolved["model"]["path"]
    if Path(model).is_absolute() and not Path(model).is_dir():  # moved too, or unpacked and cleared away
        model = settle(spec, Path(resolved["beside"])).model
    device, threads = plan["device"], plan["threads"]
    if anywhere:
        device, threads = "auto", spec.model.threads
    chosen = choose(device, plan["precision"], plan["attention"], threads)
    if not anywhere:
        chosen = replace(chosen, why=plan["why"], train_rows=plan.get("train_rows", 0))
    return spec, Places(Path(resolved["beside"]), None if root is None else Path(root), model, chosen)


def over_sites(resolved: Mapping[str, Any]) -> bool:
    """Tell whether a run, by its ``spec.json`` or record, is one over Flower, whose sites hold the rest."""
    return bool(resolved.get("engine") == "flower")


def check_here(resolved: Mapping[str, Any], folder: Path) -> None:
    """Refuse to go on in this process with a run whose rows are at its sites.

    Raises:
        FedLeaseError: it is one over Flower.
    """
    if over_sites(resolved):
        raise FedLeaseError(
            f"{folder} is a run over Flower: the same 'fedlease deploy' goes on with it, or 'flwr run'"
        )


def check_model(resolved: Mapping[str, Any], path: str, fingerprint: str, folder: Path) -> None:
    """Refuse a base model that is not the one a run began with."""
    if resolved["model"]["fingerprint"] != fingerprint:
        raise FedLeaseError(f"{folder}: the model at {path} is not the one the run began with")


def check_rows(resolved: Mapping[str, Any], client: str, rows_hash: str, folder: Path) -> None:
    """Refuse rows of a client that are not those a run began with."""
    if resolved["clients"][client]["rows_hash"] != rows_hash:
        raise FedLeaseError(f"{folder}: the rows of client {client} are not those the run began with")
