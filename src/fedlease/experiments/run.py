"""Run a spec, or go on with a run that was stopped."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from safetensors.torch import save

from fedlease.core.errors import FedLeaseError
from fedlease.core.files import write_bytes
from fedlease.engines.drive import Round, drive
from fedlease.engines.inprocess import InProcess
from fedlease.experiments.meter import Meter, Observer
from fedlease.experiments.prepare import Federation, data_root, plan_facts, prepare
from fedlease.experiments.results import Run
from fedlease.experiments.spec import DataSpec, Spec, make_spec, read_spec
from fedlease.experiments.store import Kept, Store, surroundings
from fedlease.training.precision import Plan
from fedlease.tuner.export import save_lora, save_mixture


def run(
    spec: Spec | Mapping[str, Any] | str | Path,
    out: str | Path | None = None,
    *,
    overrides: typing.Iterable[str] = (),
    observer: Observer | None = None,
) -> Run:
    """Run a federation from its spec to its end.

    Args:
        spec: a `Spec`, the same as plain values, or the path of a TOML file.
        out: the folder to make; None is ``runs/NAME-METHOD-SEED``.
        overrides: ``key=value`` changes to a spec from a file.
        observer: told of every batch and round.

    Returns:
        The finished run: its record, tables and adapters.

    Raises:
        FedLeaseError: what the user can put right, in one line.
    """
    beside = Path.cwd()
    if isinstance(spec, str | Path):
        beside = Path(spec).resolve().parent
        spec = read_spec(Path(spec), overrides)
    elif not isinstance(spec, Spec):
        spec = make_spec(spec)
    folder = Path(out) if out is not None else Path("runs") / default_name(spec)
    if folder.is_dir() and any(folder.iterdir()):
        Store.create(folder, {})  # raises: an occupied folder is refused before anything is loaded
    meter = Meter(observer)
    federation = prepare(spec, beside, meter.step)
    resolved = {
        "spec": spec.model_dump(mode="json"),
        "beside": str(beside),
        "data_root": str(root) if (root := data_root(spec, beside)) else None,
        "plan": plan_facts(federation.plan),
        "model": {"path": federation.base.path, "fingerprint": federation.base.fingerprint},
        "clients": federation.clients,
    }
    return _go(Store.create(folder, resolved), spec, federation, meter)


def resume(folder: str | Path, *, observer: Observer | None = None) -> Run:
    """Go on with a run from its last checkpoint; the result equals that of a run never stopped, bit for bit.

    Raises:
        FedLeaseError: not a run, or its data or model are no longer the same.
    """
    store = Store(Path(folder))
    resolved = store.resolved()
    finished = Run(store.folder)
    if (store.folder / "record.json").is_file() and finished.record["status"] == "complete":
        return finished
    spec = make_spec(resolved["spec"], str(store.folder / "spec.json"))
    if resolved["data_root"]:  # where the rows were, whatever the environment says now
        spec = spec.model_copy(update={"data": DataSpec(root=resolved["data_root"])})
    meter = Meter(observer)
    federation = prepare(spec, Path(resolved["beside"]), meter.step, Plan(**resolved["plan"]))
    _same(resolved, federation, store.folder)
    return _go(store, spec, federation, meter)


def default_name(spec: Spec) -> str:
    """The folder name of a run that was given none."""
    return f"{spec.name}-{spec.method['name']}-{spec.seed}"


def _same(resolved: Mapping[str, Any], federation: Federation, folder: Path) -> None:
    if resolved["model"]["fingerprint"] != federation.base.fingerprint:
        raise FedLeaseError(
            f"{folder}: the model at {federation.base.path} is not the one the run began with"
        )
    for client, facts in federation.clients.items():
        if resolved["clients"][client]["rows_hash"] != facts["rows_hash"]:
            raise FedLeaseError(f"{folder}: the rows of client {client} are not those the run began with")


def _go(store: Store, spec: Spec, federation: Federation, meter: Meter) -> Run:
    """Run the rounds that are left, with a checkpoint and a record after each, then write the adapters."""
    algorithm, seed = federation.algorithm, spec.seed
    state, kept, rounds = _start(store, federation, seed)
    engine = InProcess(algorithm, federation.sites, kept.weights)
    meter.begin(spec, federation, kept.round)
    began = perf_counter()
    for result in drive(
        algorithm, state, engine, done=kept.round, rounds=spec.rounds, score_every=spec.score_every
    ):
        state = result.state
        entry = _entry(result, meter)
        rounds.append(entry)
        wrote = perf_counter()
        facts = dict(algorithm.facts(state))
        store.save(state, Kept(result.number, _plain(engine.kept)), rounds)
        store.write_record(_record("running", spec, federation, rounds, facts))
        meter.round(entry, perf_counter() - wrote)
    facts = dict(algorithm.facts(state))
    _write_adapters(store.folder, federation, state, engine)
    store.write_record(_record("complete", spec, federation, rounds, facts))
    meter.end(perf_counter() - began)
    return Run(store.folder)


def _start(store: Store, federation: Federation, seed: int) -> tuple[Any, Kept, list[dict[str, Any]]]:
    """The last checkpoint, or the method's first state."""
    first = federation.algorithm.init(federation.base.modules, seed)
    saved = store.load(type(first))
    return saved if saved is not None else (first, Kept(0, {}), [])


def _plain(kept: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {client: dict(weights) for client, weights in kept.items()}


def _entry(result: Round, meter: Meter) -> dict[str, Any]:
    """What the record tells of one round."""
    measured = meter.take()
    other = result.seconds - measured.train_seconds - measured.score_seconds
    return {
        "round": result.number,
        "metrics": {client: dict(scores) for client, scores in result.metrics.items()},
        "loss": measured.loss,
        "rows": measured.rows,
        "bytes": result.traffic.total(),
        "seconds": {
            "total": result.seconds,
            "train": measured.train_seconds,
            "score": measured.score_seconds,
            "other": other,
        },
    }


def _record(
    status: str, spec: Spec, federation: Federation, rounds: list[dict[str, Any]], facts: dict[str, Any]
) -> dict[str, Any]:
    return {
        "status": status,
        **surroundings(),
        "spec": spec.model_dump(mode="json"),
        "seed": spec.seed,
        "plan": plan_facts(federation.plan),
        "model": {"path": federation.base.path, "fingerprint": federation.base.fingerprint},
        "clients": federation.clients,
        **facts,
        "rounds": rounds,
    }


def _write_adapters(folder: Path, federation: Federation, state: Any, engine: InProcess) -> None:
    """Write what every client uses: a PEFT folder each, stock LoRA where there is a single expert."""
    algorithm, base = federation.algorithm, federation.base
    for client in engine.ids:
        model = algorithm.deploy(algorithm.serve(state, client), engine.kept.get(client, {}))
        write = save_lora if model.adapter.experts == 1 else save_mixture
        write(model, folder / "adapters" / client, base.path)
    heads = folder / "heads"
    heads.mkdir(exist_ok=True)
    for labels, head in base.heads.items():
        write_bytes(heads / f"{labels}.safetensors", save(head.state_dict()))
