"""Sentences about a record that the terminal and the page both say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fedlease.report.records import Record, capital, scored_rows


def some(names: Sequence[str], most: int = 8) -> str:
    """Names in a sentence: ``a, b and 3 more``."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"


def cut_rows(record: Record) -> Iterator[str]:
    """How many rows of which clients were cut to the model's length; nothing where none was."""
    for kind, rows in (("train", "training rows"), ("test", scored_rows(record))):
        counts = {client: facts.get("cut_rows", {}).get(kind) for client, facts in record["clients"].items()}
        said = [f"{client} {count}" for client, count in counts.items() if count]
        if said:
            yield f"{capital(rows)} cut, longer than the model's max_length: {some(said)}."
