"""What a trial says of a round, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def lines(entry: Mapping[str, Any]) -> list[str]:
    """Say of a round of the record how long it took, what it scored, and who was left out of it."""
    scores = [score for of_one in entry["metrics"].values() for score in list(of_one.values())[:1]]
    said = f"round {entry['round']}: {entry['seconds']['total']:.1f} s"
    if scores:
        said += f", {100 * sum(scores) / len(scores):.1f} % over {len(scores)} sites"
    return [said, *left_out(entry)]


def left_out(told: Mapping[str, Any]) -> list[str]:
    """Say who was left out of a round or, of a whole record, of the end of the run."""
    return [
        f"  {one['client']} is left out of {one['task']}: it {one['reason']}"
        for one in told.get("left_out", ())
    ]
