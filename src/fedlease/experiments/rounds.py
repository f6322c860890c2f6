"""The rounds of a run that are left, whatever engine carries them, each with a checkpoint and a record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from time import perf_counter
from typing import Any

from fedlease.core.protocols import Algorithm
from fedlease.engines.drive import Engine, Round, drive
from fedlease.experiments.checkpoint import Checkpoint
from fedlease.experiments.meter import Meter
from fedlease.experiments.spec import Spec
from fedlease.experiments.store import Store

Facts = Callable[[Any], Mapping[str, Any]]
"""What a record tells of a method's state."""


def go_on(
    store: Store,
    spec: Spec,
    algorithm: Algorithm[Any],
    engine: Engine,
    found: Checkpoint,
    facts: Facts,
    meter: Meter,
) -> Any:
    """Run the rounds after a checkpoint, adding to its history, and return the last state."""
    state, history = found.state, found.history
    for result in drive(
        algorithm, state, engine, done=found.round, rounds=spec.rounds, score_every=spec.score_every
    ):
        state = result.state
        entry = _entry(result, meter)
        history.rounds.append(entry)
        wrote = perf_counter()
        store.save(Checkpoint(result.number, state, engine.kept, history, engine.holds))
        store.write_record("running", history, facts(state))
        meter.round(entry, perf_counter() - wrote)
    return state


def _entry(result: Round, meter: Meter) -> dict[str, Any]:
    """What the record tells of one round. Writing its checkpoint counts in the next round."""
    measured = meter.take()
    total = result.seconds + measured.write_seconds
    left_out = [asdict(one) for one in result.traffic.left_out]
    return {
        "round": result.number,
        "metrics": {client: dict(scores) for client, scores in result.metrics.items()},
        "loss": dict(sorted(measured.loss.items())),  # where clients work side by side, in any order
        "rows": measured.rows,
        "bytes": result.traffic.total(),
        **({"left_out": left_out} if left_out else {}),
        "seconds": {
            "total": total,
            "train": measured.train_seconds,
            "score": measured.score_seconds,
            "other": total - measured.train_seconds - measured.score_seconds,
            "reused": measured.reused_seconds,
        },
    }
