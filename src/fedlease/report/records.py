"""What tables and pictures ask of a record: groups of clients, and scores in the record's main metric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

Record = Mapping[str, Any]
"""A run's ``record.json``."""


class Entry(NamedTuple):
    """A run with its place in a table or picture.

    Attributes:
        row: what the run is called there: a method, or a method with a setting.
        section: which part it belongs to, where there are several side by side (``"r = 2"``); else empty.
        record: the run's record.
        folder: the run's folder.
    """

    row: str
    section: str
    record: Record
    folder: Path


class Scored(NamedTuple):
    """A scored round: its number, and the score of every client that answered, in percent."""

    round: int
    scores: dict[str, float]


def owners(record: Record) -> dict[str, int]:
    """The expert of every client that has one, newcomers last; empty without an allocation."""
    allocation = record.get("allocation")
    if not allocation:
        return {}
    compared = zip(allocation["clients"], map(int, allocation["labels"]), strict=True)
    return {**dict(compared), **allocation.get("newcomers", {})}


def label(record: Record) -> str:
    """The name of a run in tables: its method's."""
    return str(record["spec"]["method"]["name"])


METRICS = {"rouge1": "ROUGE-1", "rougeL": "ROUGE-L"}
"""What scores are called among people, where that is not their name in records as words."""


def metric(record: Record) -> str:
    """The name of the score that tables and pictures show."""
    return str(record.get("metric", "accuracy"))


def metric_title(record: Record) -> str:
    """What that score is called among people."""
    return METRICS.get(metric(record), metric(record).replace("_", " "))


def held_out(record: Record) -> bool:
    """Whether clients are scored on rows put aside from their training rows, and not on test rows."""
    return bool(record["spec"].get("data", {}).get("held_out"))


def scored_rows(record: Record) -> str:
    """What the rows are that clients are scored on."""
    return "held-out training rows" if held_out(record) else "test rows"


def score_title(records: Iterable[Record]) -> str:
    """What scores of runs are called: ``test accuracy``, or ``accuracy on held-out training rows``.

    Where some runs are of the one and some of the other it is neither: ``accuracy``.
    """
    found = {(metric_title(record), held_out(record)) for record in records}
    name, held = " or ".join(sorted({name for name, _ in found})), {held for _, held in found}
    if len(held) > 1:
        return name
    return f"{name} on held-out training rows" if held == {True} else f"test {name}"


def capital(words: str) -> str:
    """Words as a sentence begins; unlike ``capitalize`` it leaves the other letters as they are."""
    return words[:1].upper() + words[1:]


def groups(record: Record) -> dict[str, list[str]]:
    """The clients of every group of a spec, in the order of the spec."""
    found: dict[str, list[str]] = {entry["name"]: [] for entry in record["spec"]["clients"]}
    for client, facts in record["clients"].items():
        found[facts["group"]].append(client)
    return found


def scored(record: Record) -> list[Scored]:
    """The rounds in which at least one client was scored, in their order."""
    name = metric(record)
    rounds = [
        Scored(
            entry["round"],
            {client: 100 * scores[name] for client, scores in entry["metrics"].items() if name in scores},
        )
        for entry in record["rounds"]
    ]
    return [found for found in rounds if found.scores]


def average(scores: Mapping[str, float], clients: Iterable[str]) -> float | None:
    """The mean over those of the clients that were scored; None when none was."""
    values = [scores[client] for client in clients if client in scores]
    return mean(values) if values else None
