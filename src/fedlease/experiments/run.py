"""Run a spec, or go on with a run that was stopped."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from safetensors.torch import save

from fedlease.core.files import write_bytes
from fedlease.experiments.checkpoint import Checkpoint, History
from fedlease.experiments.engine import Carrier, OneProcess, RunEngine, Start
from fedlease.experiments.heartbeat import beating
from fedlease.experiments.meter import Meter, Observer, note_of
from fedlease.experiments.params import told
from fedlease.experiments.places import Places, known_here, measure_first, settle
from fedlease.experiments.prepare import Federation, prepare, read_rows
from fedlease.experiments.reopen import check_here, check_model, check_rows, reopen
from fedlease.experiments.results import Run
from fedlease.experiments.rounds import go_on
from fedlease.experiments.spec import Spec, make_spec, read_spec
from fedlease.experiments.store import ELSEWHERE, Store
from fedlease.experiments.surroundings import surroundings
from fedlease.experiments.tracking import check, following, remembered
from fedlease.training.quantization import libraries
from fedlease.training.shapes import count
from fedlease.tuner.export import save_lora, save_mixture

IN_PROCESS = OneProcess()


def run(
    spec: Spec | Mapping[str, Any] | str | Path,
    out: str | Path | None = None,
    *,
    overrides: Iterable[str] = (),
    observer: Observer | None = None,
    memory: str | Path | None = None,
    track: Iterable[str] = (),
    engine: Carrier = IN_PROCESS,
    measure: bool = True,
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
        engine: who carries messages to the clients; `fedlease.deploy.on_ray.OnRay` has them on a Ray cluster.
        measure: measure how this machine computes the model fastest, where that is open and was never
            measured (`fedlease.training.measured`); else the rule of `choose` holds.

    Returns:
        The finished run: its record, tables and adapters.

    Raises:
        FedLeaseError: what the user can put right, in one line.
    """
    beside, track = Path.cwd(), check(track)
    engine.check()
    if isinstance(spec, str | Path):
        beside = Path(spec).resolve().parent
        spec = read_spec(Path(spec), overrides)
    else:
        content = spec.model_dump(mode="json", exclude_unset=True) if isinstance(spec, Spec) else spec
        spec = make_spec(content, overrides=overrides)
    store = Store(Path(out) if out is not None else Path("runs") / default_name(spec))
    store.check_free()  # before anything is loaded
    if measure and not known_here(spec, beside):
        read_rows(spec, settle(spec, beside))  # so that nobody waits to hear that they are not there
        measure_first(spec, beside, note_of(observer))
    meter, places, began = Meter(observer), settle(spec, beside), perf_counter()
    federation = prepare(spec, places, meter.step, None if memory is None else Path(memory))
    with store.created(_resolved(spec, places, federation, engine)):
        return _go(store, spec, federation, meter, perf_counter() - began, track, engine)


def resume(
    folder: str | Path,
    *,
    rounds: int | None = None,
    observer: Observer | None = None,
    memory: str | Path | None = None,
    track: Iterable[str] = (),
    engine: Carrier = IN_PROCESS,
) -> Run:
    """Go on with a run from its last checkpoint; the result equals that of a run never stopped, bit for bit.

    Trackers that followed it go on, too; those in ``track`` are told of the rounds that are done. The engine
    need not be the one that the run began with.

    Args:
        folder: of the run.
        rounds: how many it is to have in all, if more than were asked for, also where it is complete: its
            weights are then those of a run that was asked for so many at once. None leaves them as they are.
        observer, memory, track: see `run`.

    Raises:
        FedLeaseError: not a run, one over Flower or of another version of fedlease, its data or model are no
            longer the same, or fewer rounds than it has.
    """
    engine.check()
    store, began = Store(Path(folder)), perf_counter()
    check_here(store.resolved(), store.folder)
    track = dict.fromkeys((*remembered(store.folder), *check(track)))
    finished = Run(store.folder)
    done = store.has_record() and finished.record["status"] == "complete" and store.long_enough()
    if rounds is not None or not done:
        store.check_version()
    if rounds is not None:
        store.extend(rounds)
    resolved = store.resolved()
    if done and store.long_enough():
        _tell_late(store, finished, track)
        return finished
    spec, places = reopen(store)
    meter = Meter(observer)
    federation = prepare(spec, places, meter.step, None if memory is None else Path(memory))
    check_model(resolved, federation.base.path, federation.base.fingerprint, store.folder)
    for client, facts in federation.clients.items():
        check_rows(resolved, client, facts["rows_hash"], store.folder)
    with store.locked():
        return _go(store, spec, federation, meter, perf_counter() - began, track, engine)


def _tell_late(store: Store, finished: Run, track: Iterable[str]) -> None:
    """Let trackers know of a run that is complete already."""
    if track:
        with store.locked(), following(store, track, History(finished.record["rounds"])) as trackers:
            trackers.complete()


def default_name(spec: Spec) -> str:
    """The folder name of a run that was given none."""
    return f"{spec.name}-{spec.method['name']}-{spec.seed}"


def _resolved(spec: Spec, places: Places, federation: Federation, engine: Carrier) -> dict[str, Any]:
    """What was asked for and how it was resolved: no default or preset is left to a later version."""
    return {
        "spec": {**spec.model_dump(mode="json"), "method": spec.settings()},
        "beside": str(places.beside),
        "root": None if places.root is None else str(places.root),
        "plan": asdict(places.plan),
        "model": {"path": federation.base.path, "fingerprint": federation.base.fingerprint},
        "clients": federation.clients,
        **({} if engine == IN_PROCESS else {"engine": engine.name}),  # what 'fedlease resume' takes again
    }


def _go(
    store: Store,
    spec: Spec,
    federation: Federation,
    meter: Meter,
    setup: float,
    track: Iterable[str],
    carrier: Carrier,
) -> Run:
    """Run the rounds that are left, with a checkpoint and a record after each, then write the adapters."""
    algorithm = federation.algorithm
    # before an adapter is on it; the head is that of the fewest labels
    size = count(federation.base.model)
    first = algorithm.init(federation.base.modules, spec.seed)
    found = store.load(type(first)) or Checkpoint(0, first, {}, History())
    history, where = found.history, surroundings(libraries(spec.model.quantization))
    history.sessions.append({"from_round": found.round + 1, **where, "setup_seconds": setup})
    meter.begin(spec, federation, found.round)
    began = perf_counter()
    with (
        following(store, track, history) as trackers,
        beating(store.folder, found.round, spec.rounds) as heart,
        carrier.start(Start(store, spec, federation, found, meter.step)) as engine,
    ):
        meter.also(heart, trackers)
        state = go_on(store, spec, algorithm, engine, found, lambda of: _facts(federation, size, of), meter)
        _write_adapters(store.folder, federation, state, engine)
        facts = {**_facts(federation, size, state), **_routing(federation, state, engine, history)}
        shutil.rmtree(store.folder / ELSEWHERE, ignore_errors=True)
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


def _routing(federation: Federation, state: Any, engine: RunEngine, history: History) -> dict[str, Any]:
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


def _write_adapters(folder: Path, federation: Federation, state: Any, engine: RunEngine) -> None:
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
