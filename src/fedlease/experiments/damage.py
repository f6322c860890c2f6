"""Whether what lies in a run's folder has the parts that all who read it take for granted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ASKED: Mapping[str, tuple[type, str]] = {"spec": (dict, "a table"), "clients": (dict, "a table")}
"""What spec.json and record.json both have, and what it is."""

RECORDED: Mapping[str, tuple[type, str]] = {
    **ASKED,
    "spec.method.name": (str, "a name"),
    "spec.rounds": (int, "a number"),
    "spec.clients": (list, "a list"),
    "status": (str, "a word"),
    "rounds": (list, "a list"),
    "versions": (dict, "a table"),
}
"""What every record has."""

OF_ROUND: Mapping[str, tuple[type, str]] = {"round": (int, "a number"), "metrics": (dict, "a table")}
"""What every round of a record has."""


def damaged_record(record: Mapping[str, Any]) -> str | None:
    """Return what a record lacks, in itself or in one of its rounds, as `damage` does."""
    wrong = damage(record, RECORDED)
    if wrong is not None:
        return wrong
    for place, round in enumerate(record["rounds"], 1):
        wrong = damage(round, OF_ROUND)
        if wrong is not None:
            return f"of the rounds, number {place}: {wrong}"
    return None


def damage(value: Any, parts: Mapping[str, tuple[type, str]]) -> str | None:
    """Return what a file lacks, or has as something else, in words; None for nothing."""
    for path, (kind, what) in parts.items():
        found: Any = value
        for key in path.split("."):
            if not isinstance(found, Mapping) or key not in found:
                return f"it has no {path}"
            found = found[key]
        if not isinstance(found, kind):
            return f"its {path} is not {what}"
    return None
