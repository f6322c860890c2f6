"""From a spec to a federation ready to run: rows, base model, one site a client."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fedlease import __version__
from fedlease.core.errors import FedLeaseError
from fedlease.core.progress import Watch, unwatched
from fedlease.core.protocols import Algorithm, ClientId
from fedlease.data.catalog import find
from fedlease.data.federation import ClientData, ClientPlan, federate
from fedlease.data.sources import Source
from fedlease.data.splits import Group
from fedlease.experiments.clients import ClientSpec
from fedlease.experiments.places import Places
from fedlease.experiments.spec import Spec
from fedlease.tasks.base import Encoded, Example, Task
from fedlease.training.base import Base, load_base
from fedlease.training.precision import Plan
from fedlease.training.remembered import RememberingSite
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
        metric: the score that tables show.
        clients: what a record tells of every client: data, rows, rows of each label, cut rows, a hash.
    """

    algorithm: Algorithm[Any]
    base: Base
    sites: dict[ClientId, TorchSite]
    plan: Plan
    metric: str
    clients: dict[ClientId, dict[str, Any]]


def read_rows(spec: Spec, places: Places) -> dict[ClientId, ClientData]:
    """Read the rows of every client.

    Raises:
        FedLeaseError: rows that are not there, too few, or cannot be read.
    """
    return federate(plans(spec.clients, places.beside), places.root, spec.seed, held_out=spec.data.held_out)


def prepare(spec: Spec, places: Places, watch: Watch = unwatched, memory: Path | None = None) -> Federation:
    """Read the rows, load the base and make the sites; with ``memory``, sites that remember trainings there.

    Raises:
        FedLeaseError: data or model that cannot be used.
    """
    algorithm = spec.algorithm()
    plan, model = places.plan, spec.model
    data = read_rows(spec, places)
    torch.set_num_threads(plan.threads)
    base = base_of(spec, places, [len(held.labels) for held in data.values() if held.labels])
    resident, task, training = Resident(base), spec.task, spec.training.on(plan)
    sites: dict[ClientId, TorchSite] = {}
    facts: dict[ClientId, dict[str, Any]] = {}
    context = {
        "fedlease": __version__,
        "model": model.model_dump(),
        "plan": [plan.device, plan.way, plan.threads],
        "base": base.fingerprint,
    }
    of = {client: entry for entry in spec.clients for client in entry.ids}
    for client, held in sorted(data.items()):
        train, test = encoded(client, held, task, base.tokenizer, model.max_length)
        parts = (client, resident, task, train, test, len(held.labels), training, spec.seed, watch)
        sites[client] = TorchSite(*parts) if memory is None else RememberingSite(*parts, memory, context)
        facts[client] = {
            "group": of[client].name,
            "data": "+".join(of[client].names) or of[client].name,
            "origin": held.origin,
            "labels": list(held.labels),
            "train_rows": len(held.train),
            "test_rows": len(held.test),
            "label_counts": {
                "train": _label_counts(held, held.train),
                "test": _label_counts(held, held.test),
            },
            "shared_test_rows": held.shared_test,
            "cut_rows": {"train": train.truncated, "test": test.truncated},
            "rows_hash": rows_hash(held),
        }
    return Federation(algorithm, base, sites, plan, task.metric, facts)


def base_of(spec: Spec, places: Places, labels: Iterable[int]) -> Base:
    """Load the base model of a spec, with a head for each number of labels; the same wherever a run goes on.

    Raises:
        FedLeaseError: a model that cannot be used, or that takes fewer tokens than ``model.max_length``.
    """
    model = spec.model
    base = load_base(
        places.model,
        labels=labels,
        seed=spec.seed,
        plan=places.plan,
        targets=model.targets,
        dropout=model.dropout,
        quantization=model.quantization,
        gradient_checkpointing=model.gradient_checkpointing,
    )
    if base.max_length is not None and model.max_length > base.max_length:
        raise FedLeaseError(
            f"model.max_length is {model.max_length}: {model.name} takes {base.max_length} tokens"
        )
    return base


def encoded(
    client: ClientId, held: ClientData, task: Task, tokenizer: Any, max_length: int
) -> tuple[Encoded, Encoded]:
    """Tokenise a client's training and test rows."""
    found = []
    for kind, rows in (("training", held.train), ("test", held.test)):
        try:
            found.append(task.encode(rows, tokenizer, max_length))
        except FedLeaseError as error:
            raise FedLeaseError(f"client {client}, {kind} rows: {error}") from error
    return found[0], found[1]


def plans(entries: Iterable[ClientSpec], beside: Path) -> list[ClientPlan]:
    """What each client is to hold; files are meant from the folder ``beside``."""
    found = []
    for entry in entries:
        source, *mixed_with = map(find, entry.names) if entry.names else (_source(entry, beside),)
        group = None if entry.split is None else Group(entry.name, entry.ids, entry.split)
        found += [
            ClientPlan(
                client, source, entry.task, entry.train_rows, entry.test_rows, tuple(mixed_with), group
            )
            for client in entry.ids
        ]
    return found


def sources_of(spec: Spec, beside: Path, client: ClientId) -> tuple[Source, ...]:
    """Return where a client's rows come from."""
    return next(plan.sources for plan in plans(spec.clients, beside) if plan.name == client)


def _source(entry: ClientSpec, beside: Path) -> Source:
    files = {key: str((beside / path).resolve()) for key, path in _files(entry).items()}
    return Source(
        prompt=entry.prompt,
        answer=entry.answer,
        messages=entry.messages,
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


def _label_counts(held: ClientData, rows: Sequence[Example]) -> list[int]:
    counts = Counter(row.label for row in rows)
    return [counts[label] for label in range(len(held.labels))]


def rows_hash(held: ClientData) -> str:
    """A hash of a client's rows, to know them again."""
    digest = hashlib.blake2b(digest_size=8)
    for rows in (held.train, held.test):
        digest.update(_bytes(rows))
    return digest.hexdigest()


def _bytes(rows: Sequence[Example]) -> bytes:
    told = (
        (*row.texts, str(row.label)) if row.answer is None else (*row.roles, *row.texts, row.answer)
        for row in rows
    )
    return "\x1e".join(map("\x1f".join, told)).encode()
