"""From a spec to a federation ready to run: rows, base model, one site a client."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from fedlease.core.progress import Watch
from fedlease.core.protocols import Algorithm, ClientId
from fedlease.data.catalog import find
from fedlease.data.federation import ClientData, ClientPlan, federate
from fedlease.data.sources import Source
from fedlease.data.where import VARIABLE
from fedlease.experiments.spec import ClientSpec, Spec
from fedlease.tasks import classification
from fedlease.tasks.base import Example
from fedlease.training.base import Base, load_base
from fedlease.training.precision import Plan, choose
from fedlease.training.resident import Resident
from fedlease.training.site import TorchSite


@dataclass(frozen=True)
class Federation:
    """Everything a run needs, assembled from its spec.

    Attributes:
        algorithm: the method.
        base: the frozen model.
        sites: one a client, all on the one base.
        plan: how the machine computes.
        clients: what a record tells of every client: data, rows, cut rows, a hash of its rows.
    """

    algorithm: Algorithm[Any]
    base: Base
    sites: dict[ClientId, TorchSite]
    plan: Plan
    clients: dict[ClientId, dict[str, Any]]


def prepare(spec: Spec, beside: Path, watch: Watch, plan: Plan | None = None) -> Federation:
    """Read the rows, load the base and make the sites.

    Args:
        spec: the specification.
        beside: the folder that relative paths in it are meant from.
        watch: told of every batch.
        plan: how to compute, when a run is resumed; None resolves the spec's ``auto``.

    Raises:
        FedLeaseError: data or model that cannot be used.
    """
    algorithm = spec.algorithm()
    data = federate(_plans(spec, beside), data_root(spec, beside), spec.seed)
    model = spec.model
    plan = plan or choose(model.device, model.precision, model.attention, model.threads)
    torch.set_num_threads(plan.threads)
    base = load_base(
        model.name,
        labels=[len(held.labels) for held in data.values()],
        seed=spec.seed,
        plan=plan,
        targets=model.targets,
        dropout=model.dropout,
        beside=beside,
    )
    resident, sites, facts = Resident(base), {}, {}
    of = {client: entry for entry in spec.clients for client in entry.ids}
    for client, held in sorted(data.items()):
        train, test = (
            classification.encode(rows, base.tokenizer, model.max_length) for rows in (held.train, held.test)
        )
        sites[client] = TorchSite(
            client, resident, classification, train, test, len(held.labels), spec.training, spec.seed, watch
        )
        facts[client] = {
            "group": of[client].name,
            "data": of[client].data or of[client].name,
            "origin": held.origin,
            "labels": list(held.labels),
            "train_rows": len(held.train),
            "test_rows": len(held.test),
            "shared_test_rows": held.shared_test,
            "cut_rows": {"train": train.truncated, "test": test.truncated},
            "rows_hash": _hash(held),
        }
    return Federation(algorithm, base, sites, plan, facts)


def data_root(spec: Spec, beside: Path) -> Path | None:
    """The folder of named data sets: the spec's, else FEDLEASE_DATA, else None (the hub)."""
    if spec.data.root is not None:
        return (beside / spec.data.root).resolve()
    named = os.environ.get(VARIABLE)
    return Path(named).resolve() if named else None


def _plans(spec: Spec, beside: Path) -> list[ClientPlan]:
    return [
        ClientPlan(client, _source(entry, beside), entry.task, entry.train_rows, entry.test_rows)
        for entry in spec.clients
        for client in entry.ids
    ]


def _source(entry: ClientSpec, beside: Path) -> Source:
    if entry.data is not None:
        return find(entry.data)
    files = {key: str((beside / path).resolve()) for key, path in _files(entry).items()}
    return Source(
        text=entry.text,
        label=entry.label,
        labels=entry.labels,
        train=files.get("train"),
        test=files.get("test"),
        hub=entry.hub,
        hub_config=entry.hub_config,
        train_split=entry.train_split,
        test_split=entry.test_split,
    )


def _files(entry: ClientSpec) -> dict[str, str]:
    return {key: path for key in ("train", "test") if (path := getattr(entry, key)) is not None}


def _hash(held: ClientData) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for rows in (held.train, held.test):
        digest.update(_bytes(rows))
    return digest.hexdigest()


def _bytes(rows: Sequence[Example]) -> bytes:
    return "\x1e".join("\x1f".join((*row.texts, str(row.label))) for row in rows).encode()


def plan_facts(plan: Plan) -> dict[str, Any]:
    """The plan as plain values."""
    return asdict(plan)
