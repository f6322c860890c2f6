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


def damage(value: Mapping[str, Any], parts: Mapping[str, tuple[type, str]]) -> str | None:
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
