"""Run a spec, or go on with a run that was stopped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from safetensors.torch import save

from fedlease.core.files import write_bytes
from fedlease.engines.inprocess import InProcess
from fedlease.engines.uploads import Uploads
from fedlease.experiments.heartbeat import beating
from fedlease.experiments.meter import Meter, Observer
from fedlease.experiments.params import told
from fedlease.experiments.prepare import Federation, Places, prepare, settle
from fedlease.experiments.reopen import check_model, check_rows, reopen
from fedlease.experiments.results import Run
from fedlease.experiments.rounds import go_on
from fedlease.experiments.spec import Spec, make_spec, read_spec
from fedlease.experiments.store import Checkpoint, History, Store
from fedlease.experiments.surroundings import surroundings
from fedlease.experiments.tracking import check, following, remembered
from fedlease.training.quantization import libraries
from fedlease.training.shapes import count
from fedlease.tuner.export import save_lora, save_mixture


def run(
    spec: Spec | Mapping[str, Any] | str | Path,
    out: str | Path | None = None,
    *,
    overrides: Iterable[str] = (),
    observer: Observer | None = None,
    memory: str | Path | None = None,
    track: Iterable[str] = (),
) -> Run:
    """Run a federation from its spec to its end.

    Args:
        spec: a `Spec`, the same as plain values, or the path of a TOML file.
        out: the folder to make; None is ``runs/NAME-METHOD-SEED``.
        overrides: ``key=value`` changes, such as ``method.rank=8``.
        observer: told of every batch and round.
        memory: a folder where runs share clients' trainings that are the same in all of them, see
            `fedlease.training.remembered`; None trains everything.
        track: trackers that follow the run: ``"tensorboard"``, ``"wandb"``, ``"mlflow"``.

    Returns:
        The finished run: its record, tables and adapters.

    Raises:
        FedLeaseError: what the user can put right, in one line.
    """
    beside, track = Path.cwd(), check(track)
    if isinstance(spec, str | Path):
        beside = Path(spec).resolve().parent
        spec = read_spec(Path(spec), overrides)
    else:
        content = spec.model_dump(mode="json", exclude_unset=True) if isinstance(spec, Spec) else spec
        spec = make_spec(content, overrides=overrides)
    store = Store(Path(out) if out is not None else Path("runs") / default_name(spec))
    store.check_free()  # before anything is loaded
    meter, places, began = Meter(observer), settle(spec, beside), perf_counter()
    federation = prepare(spec, places, meter.step, None if memory is None else Path(memory))
    store.create(_resolved(spec, places, federation))
    return _go(store, spec, federation, meter, perf_counter() - began, track)


def resume(
    folder: str | Path,
    *,
    observer: Observer | None = None,
    memory: str | Path | None = None,
    track: Iterable[str] = (),
) -> Run:
    """Go on with a run from its last checkpoint; the result equals that of a run never stopped, bit for bit.

    Trackers that followed it go on, too; those in ``track`` are told of the rounds that are done.

    Raises:
        FedLeaseError: not a run, or its data or model are no longer the same.
    """
    store, began = Store(Path(folder)), perf_counter()
    track = dict.fromkeys((*remembered(store.folder), *check(track)))
    resolved = store.resolved()
    finished = Run(store.folder)
    if store.has_record() and finished.record["status"] == "complete":
        _tell_late(store, finished, track)
        return finished
    spec, places = reopen(store)
    meter = Meter(observer)
    federation = prepare(spec, places, meter.step, None if memory is None else Path(memory))
    check_model(resolved, federation.base.path, federation.base.fingerprint, store.folder)
    for client, facts in federation.clients.items():
        check_rows(resolved, client, facts["rows_hash"], store.folder)
    return _go(store, spec, federation, meter, perf_counter() - began, track)


def _tell_late(store: Store, finished: Run, track: Iterable[str]) -> None:
    """Let trackers know of a run that is complete already."""
    if track:
        with store.locked(), following(store, track, History(finished.record["rounds"])) as trackers:
            trackers.complete()


def default_name(spec: Spec) -> str:
    """The folder name of a run that was given none."""
    return f"{spec.name}-{spec.method['name']}-{spec.seed}"


def _resolved(spec: Spec, places: Places, federation: Federation) -> dict[str, Any]:
    """What was asked for and how it was resolved: no default or preset is left to a later version."""
    return {
        "spec": {**spec.model_dump(mode="json"), "method": spec.settings()},
        "beside": str(places.beside),
        "root": None if places.root is None else str(places.root),
        "plan": asdict(places.plan),
        "model": {"path": federation.base.path, "fingerprint": federation.base.fingerprint},
        "clients": federation.clients,
    }


def _go(
    store: Store,
    spec: Spec,
    federation: Federation,
    meter: Meter,
    setup: float,
    track: Iterable[str],
) -> Run:
    """Run the rounds that are left, with a checkpoint and a record after each, then write the adapters."""
    with store.locked():
        algorithm = federation.algorithm
        # before an adapter is on it; the head is that of the fewest labels
        size = count(federation.base.model)
        first = algorithm.init(federation.base.modules, spec.seed)
        found = store.load(type(first)) or Checkpoint(0, first, {}, History())
        history, where = found.history, surroundings(libraries(spec.model.quantization))
        history.sessions.append({"from_round": found.round + 1, **where, "setup_seconds": setup})
        uploads = Uploads.of(algorithm, federation.base.modules, spec.exchange.norm_factor)
        wire = spec.exchange.wire
        engine = InProcess(algorithm, federation.sites, found.kept, uploads, wire, found.holds)
        meter.begin(spec, federation, found.round)
        began = perf_counter()
        with (
            following(store, track, history) as trackers,
            beating(store.folder, found.round, spec.rounds) as heart,
        ):
            meter.also(heart, trackers)
            state = go_on(
                store, spec, algorithm, engine, found, lambda of: _facts(federation, size, of), meter
            )
            _write_adapters(store.folder, federation, state, engine)
            facts = {**_facts(federation, size, state), **_routing(federation, state, engine, history)}
            store.write_record("complete", history, {**facts, "files": store.sums()})
            trackers.complete()
        meter.end(perf_counter() - began)
    return Run(store.folder)


def _facts(federation: Federation, size: int, state: Any) -> dict[str, Any]:
    """What the method tells of its state, and how much a client trains."""
    facts = federation.algorithm.facts(state)
    return {
        "metric": federation.metric,
        **facts,
        "parameters": told(federation.algorithm, federation.base.modules, size, facts),
    }


def _routing(federation: Federation, state: Any, engine: InProcess, history: History) -> dict[str, Any]:
    """What the record tells of the experts that clients use at the end; nothing without routers.

    It is no part of a checkpoint: a run resumed after its last round finds it anew. The time counts as
    scoring in the last round.
    """
    began = perf_counter()
    found = {}
    for client in engine.ids:
        model = engine.deployed(state, client)
        used = federation.sites[client].usage(model)
        if used:
            found[client] = {path: asdict(of) for path, of in used.items()}
    if not found:
        return {}
    seconds, took = history.rounds[-1]["seconds"], perf_counter() - began
    for key in ("total", "score"):
        seconds[key] += took
    return {"routing": found}


def _write_adapters(folder: Path, federation: Federation, state: Any, engine: InProcess) -> None:
    """Write what every client uses: a PEFT folder each, stock LoRA where there is a single expert.

    Beside them goes what they need and the checkpoint of the base does not hold: the heads, and weights that
    were drawn from the seed.
    """
    base = federation.base
    for client in engine.ids:
        model = engine.deployed(state, client)
        write = save_lora if model.adapter.experts == 1 else save_mixture
        write(model, folder / "adapters" / client, base.path, None if base.heads else "CAUSAL_LM")
    heads = folder / "heads"
    if base.heads or base.drawn:
        heads.mkdir(exist_ok=True)
    for labels, head in base.heads.items():
        write_bytes(heads / f"{labels}.safetensors", save(head.state_dict()))
    if base.drawn:
        write_bytes(heads / "drawn.safetensors", save(base.drawn))
