"""What was asked of a run, as far as it can set its scores apart from another's, and rows named by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedlease.report.records import Entry, Record, label

USUAL: Mapping[str, Any] = {
    "model.quantization": "none",
    "exchange.norm_factor": 100.0,
    "exchange.wire": "float32",
    "exchange.deadline": 3600.0,
    "exchange.quorum": 0.5,
    "exchange.initial_quorum": 1.0,
    "data.held_out": False,
}
"""What specifications in records leave out, or did in older versions, where it is as usual."""

OF_MODEL = ("name", "max_length", "targets", "dropout")
OF_CLIENTS = ("train_rows", "test_rows", "split")


def settings_of(record: Record) -> dict[str, Any]:
    """What can set apart two runs of a method on the same clients; how a machine computes does not."""
    spec = record["spec"]
    model = spec.get("model", {})
    tables = ("model", "exchange", "data")
    told = {f"{name}.{key}": value for name in tables for key, value in _table(spec, name)}
    return {
        **{key: value for key, value in spec["method"].items() if key != "name"},
        "rounds": spec["rounds"],
        **{f"training.{key}": value for key, value in _table(spec, "training")},
        **{f"model.{key}": model.get(key) for key in OF_MODEL},
        **{key: told.get(key, usual) for key, usual in USUAL.items()},
        **{f"generation.{key}": value for key, value in _table(spec, "generation")},
        **{f"clients.{key}": _of_clients(spec["clients"], key) for key in OF_CLIENTS},
    }


def _table(spec: Mapping[str, Any], name: str) -> Iterable[tuple[str, Any]]:
    return (spec.get(name) or {}).items()


def _of_clients(entries: Sequence[Mapping[str, Any]], key: str) -> str:
    """What a key says of all clients, said once where it is the same for all groups."""
    said = {entry["name"]: _short(entry.get(key)) for entry in entries}
    if len(set(said.values())) == 1:
        return next(iter(said.values()))
    return " ".join(f"{name}:{value}" for name, value in sorted(said.items()))


def _short(value: Any) -> str:
    """``250``, ``none``, or a split with all that it says: ``dirichlet(alpha=0.5 min_rows=10)``."""
    if not isinstance(value, Mapping):
        return _value(value)
    inside = " ".join(f"{key}={of}" for key, of in value.items() if key != "by" and of is not None)
    return f"{value.get('by')}({inside})"


def told_apart(entries: Sequence[Entry]) -> list[Entry]:
    """Rows that only have their method's name get the settings in which they differ from each other."""
    settings: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for entry in entries:
        if entry.row == label(entry.record):
            settings.setdefault((entry.section, entry.row), []).append(settings_of(entry.record))
    return [
        entry._replace(row=with_settings(entry, settings.get((entry.section, entry.row), ())))
        for entry in entries
    ]


def with_settings(entry: Entry, all_settings: Iterable[Mapping[str, Any]]) -> str:
    """The name of a row with the settings that any of the others has otherwise."""
    own = settings_of(entry.record)
    differing = [key for key in own if any(other.get(key) != own[key] for other in all_settings)]
    said = ", ".join(f"{key}={_value(own[key])}" for key in differing)
    return f"{entry.row} ({said})" if said else entry.row


def difference(one: Record, other: Record) -> str:
    """The settings in which two runs differ, ``rank is 4 and 8``; empty for none.

    A setting that one record does not tell is none: a version before there was it wrote that.
    """
    first, second = settings_of(one), settings_of(other)
    differing = [key for key in first if key in second and first[key] != second[key]]
    return ", ".join(f"{key} is {_value(first[key])} and {_value(second[key])}" for key in differing)


def _value(value: Any) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
