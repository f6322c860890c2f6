"""Clients that share rows, as tests of them ask for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedlease.data.catalog import find
from fedlease.data.federation import ClientData, ClientPlan, federate
from fedlease.data.sources import Source
from fedlease.data.splits import Classes, Dirichlet, Group, Quantity, Split

ALPHA = Dirichlet(0.5, min_rows=1)
SHARES = Classes(((0.9, 0.1), (0.1, 0.9), (0.5, 0.5), (1, 0)))
SIZES = Quantity(alpha=1.0, min_rows=1)


def group(
    split: Split | None,
    *of: Source,
    name: str = "g",
    count: int = 4,
    train: int | None = 40,
    test: int | None = 5,
) -> list[ClientPlan]:
    """Clients that all hold the data sets ``of``, one group if they split rows."""
    names = tuple(f"{name}-{n}" for n in range(count))
    shared = None if split is None else Group(name, names, split)
    return [ClientPlan(client, of[0], "t", train, test, of[1:], shared) for client in names]


def labels(rows: Sequence[Any]) -> list[int]:
    """How many rows have either label."""
    counts = Counter(row.label for row in rows)
    return [counts[0], counts[1]]


def tone(split: Split | None, seed: int = 0, **asked: Any) -> dict[str, ClientData]:
    """A federation of one group on generated texts."""
    return federate(group(split, find("tone"), **asked), None, seed)


def rows_of(clients: dict[str, ClientData], part: str = "train") -> list[tuple[str, ...]]:
    return [row.texts for data in clients.values() for row in getattr(data, part)]


def write(path: Path, texts: Sequence[str], labels: int = 2) -> str:
    """Write rows whose labels take turns; return the path."""
    rows = (json.dumps({"t": text, "label": n % labels}) + "\n" for n, text in enumerate(texts))
    path.write_text("".join(rows))
    return str(path)


def two_files(folder: Path) -> Source:
    """Training and test rows of their own, and two training rows with the texts of test rows."""
    train = [f"train {n}" for n in range(100)] + ["TEST  3", "test 17"]
    return Source(
        text=("t",),
        train=write(folder / "train.jsonl", train),
        test=write(folder / "test.jsonl", [f"test {n}" for n in range(30)]),
    )
