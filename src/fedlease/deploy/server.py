"""The server's side of a run over a Flower Grid: rounds, records and checkpoints as in one process."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import ClientId, Fact
from fedlease.deploy import finish
from fedlease.deploy.agreement import agreement
from fedlease.deploy.hello import check_hello
from fedlease.engines.exchange import FINISH
from fedlease.engines.flower import Flower, Terms
from fedlease.engines.mailbox import Mailbox
from fedlease.engines.roster import Roster
from fedlease.engines.uploads import Uploads
from fedlease.experiments.checkpoint import Checkpoint, History
from fedlease.experiments.heartbeat import beating
from fedlease.experiments.meter import Meter, Observer
from fedlease.experiments.params import told
from fedlease.experiments.results import Run
from fedlease.experiments.rounds import go_on
from fedlease.experiments.spec import Spec, make_spec
from fedlease.experiments.store import Store
from fedlease.experiments.surroundings import surroundings
from fedlease.training.models import resolve
from fedlease.training.shapes import count, modules_of, on_meta

log = logging.getLogger(__name__)

HELLO_DEADLINE = 300.0
"""Seconds a node has to say who it is: it starts a process and reads its rows."""


def serve(spec: Spec, beside: Path, out: Path, mail: Mailbox, observer: Observer | None = None) -> Run:
    """Begin a run in ``out``, or go on with the one there from its last checkpoint, to its end.

    Of the model only the ``config.json`` is needed here, and of the data nothing.

    Args:
        spec: the specification all have agreed on.
        beside: the folder that relative paths in it are meant from.
        out: the folder of the run.
        mail: to reach the sites by.
        observer: told of what sites report, and of every round.

    Raises:
        FedLeaseError: too few sites, sites that differ in what they must have in common, or another run in
            the folder.
    """
    store = Store(out)
    begun = (out / "spec.json").is_file() and store.begun()
    if begun and make_spec(store.resolved()["spec"]) != make_spec(_settled(spec)):
        raise FedLeaseError(f"{out} holds a run of another specification: choose another --out")
    if begun:
        store.check_version()
    else:
        store.check_free()
    about = {"run": _name(spec, out), "agreement": agreement(spec)}
    exchange = spec.exchange
    roster = Roster(mail, spec.ids, about, min(HELLO_DEADLINE, exchange.deadline), check=check_hello)
    if begun:
        roster.must = _must(store.resolved()["clients"])
    roster.gather(math.ceil(exchange.initial_quorum * len(spec.ids)), exchange.deadline)
    if not begun:
        _check_alike(roster.facts)
    with store.locked() if begun else store.created(_resolved(spec, beside, roster.facts)):
        roster.must = _must(store.resolved()["clients"])
        return _run(store, spec, beside, roster, about, Meter(observer))


def _run(
    store: Store, spec: Spec, beside: Path, roster: Roster, about: Mapping[str, str], meter: Meter
) -> Run:
    algorithm = spec.algorithm()
    clients = store.resolved()["clients"]
    counts = sorted({len(facts["labels"]) for facts in clients.values() if facts["labels"]})
    network = on_meta(resolve(spec.model.name, beside), counts[0] if counts else 2)
    modules, size = modules_of(network, spec.model.targets), count(network)
    first = algorithm.init(modules, spec.seed)
    found = store.load(type(first)) or Checkpoint(0, first, {}, History())
    found.history.sessions.append({"from_round": found.round + 1, **surroundings(), "setup_seconds": 0.0})
    exchange = spec.exchange
    engine = Flower(
        algorithm,
        roster,
        Uploads.of(algorithm, modules, exchange.norm_factor),
        Terms(exchange.deadline, exchange.quorum, exchange.initial_quorum),
        {**about, "labels": json.dumps(counts)},
        session=len(found.history.sessions),
        kept=dict(found.kept),
        holds=dict(found.holds),
        wire=exchange.wire,
        watch=meter.step,
    )

    def facts(state: Any) -> dict[str, Any]:
        known = algorithm.facts(state)
        return {
            "metric": spec.task.metric,
            **known,
            "parameters": told(algorithm, modules, size, known),
            "clients": {**_clients(spec, roster.facts), **clients},  # a late one too
        }

    with beating(store.folder, found.round, spec.rounds) as heart:
        meter.also(heart)
        state = go_on(store, spec, algorithm, engine, found, facts, meter)
        ends = engine.each(FINISH, {client: algorithm.serve(state, client) for client in engine.ids})
        known = facts(state)
        told_last = {**finish.told(known["clients"], ends), **_left_out(engine)}
        store.write_record("complete", found.history, {**known, **told_last})
    return Run(store.folder)


def _left_out(engine: Flower) -> dict[str, Any]:
    """Who did not finish, as a record tells it: such a site has no adapter of this run."""
    left_out = engine.take_traffic().left_out
    for one in left_out:
        log.warning("%s is left out of %s: it %s", one.client, one.task, one.reason)
    return {"left_out": [asdict(one) for one in left_out]} if left_out else {}


def _settled(spec: Spec) -> dict[str, Any]:
    """The spec with every setting of its method."""
    return {**spec.model_dump(mode="json"), "method": spec.settings()}


def _resolved(spec: Spec, beside: Path, facts: Mapping[ClientId, Mapping[str, Fact]]) -> dict[str, Any]:
    """What ``spec.json`` tells: as of a run in one process, with what sites said in the place of rows."""
    first = next(iter(facts.values()))
    return {
        "spec": _settled(spec),
        "beside": str(beside),
        "root": None,
        "engine": "flower",
        "plan": {
            **{key: getattr(spec.model, key) for key in ("device", "precision", "attention")},
            "threads": spec.model.threads or "auto",
            "why": "what it comes to is each site's own",
        },
        "model": {"path": spec.model.name, "fingerprint": first["model"]},
        "clients": _clients(spec, facts),
    }


def _clients(spec: Spec, facts: Mapping[ClientId, Mapping[str, Fact]]) -> dict[ClientId, dict[str, Any]]:
    of = {client: entry for entry in spec.clients for client in entry.ids}
    return {
        client: {
            "group": of[client].name,
            "data": "+".join(of[client].names) or of[client].name,
            "origin": "the site's own",
            "labels": json.loads(str(said["labels"])),
            "train_rows": said["train_rows"],
            "test_rows": said["test_rows"],
            "shared_test_rows": bool(said["shared_test_rows"]),
            "rows_hash": said["rows"],
            "model": said["model"],
        }
        for client, said in sorted(facts.items())
    }


def _must(clients: Mapping[ClientId, Mapping[str, Any]]) -> dict[ClientId, dict[str, Fact]]:
    """What a site must say again when it comes back: the same rows, and the model that all have."""
    model = next(iter(clients.values()))["model"]
    return {
        "": {"model": model},
        **{client: {"rows": facts["rows_hash"]} for client, facts in clients.items()},
    }


def _check_alike(facts: Mapping[ClientId, Mapping[str, Fact]]) -> None:
    models: dict[Fact, list[ClientId]] = {}
    for client, said in sorted(facts.items()):
        models.setdefault(said["model"], []).append(client)
    if len(models) > 1:
        found = "; ".join(f"{', '.join(clients)}: {model}" for model, clients in models.items())
        raise FedLeaseError(f"the sites have different files of the base model ({found}): give all the same")


def _name(spec: Spec, out: Path) -> str:
    """The run's name at its sites: a server that is started again gives the same, another folder another."""
    place = hashlib.blake2b(str(out.resolve()).encode(), digest_size=4).hexdigest()
    return f"{spec.name}-{spec.method['name']}-{spec.seed}-{place}"
