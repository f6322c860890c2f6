"""``key=value`` on the command line: one value of a specification changed."""

from __future__ import annotations

import tomllib
from typing import Any

from fedlease.core.errors import FedLeaseError


def set_value(content: dict[str, Any], text: str) -> None:
    """Change a specification, given as plain values, in place.

    Raises:
        FedLeaseError: no ``=``, or the key leads nowhere.
    """
    key, equals, given = text.partition("=")
    if not equals:
        raise FedLeaseError(f"--set {text}: write it as key=value, e.g. method.rank=8")
    try:
        value = tomllib.loads(f"value = {given}")["value"]
    except tomllib.TOMLDecodeError:
        value = given
    places, last = key.strip().split(".")[:-1], key.strip().split(".")[-1]
    tables: list[Any] = [content]
    for place in places:
        tables = [inner for table in tables for inner in _enter(table, place, text)]
    for table in tables:
        if not isinstance(table, dict):
            raise FedLeaseError(f"--set {text}: {key} is not a key of a table")
        table[last] = value


def _enter(table: Any, place: str, text: str) -> list[Any]:
    """The tables a word of a dotted key leads to; ``clients.*.x`` and ``clients.NAME.x`` go into the list."""
    if isinstance(table, list):
        found = [item for item in table if place in ("*", item.get("name"))]
        if not found:
            raise FedLeaseError(f"--set {text}: there is no client entry called {place}")
        return found
    if not isinstance(table, dict):
        raise FedLeaseError(f"--set {text}: {place} is not a table")
    return [table.setdefault(place, {})]
