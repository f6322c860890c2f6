"""Four small text tasks made from templates, for when there is neither a folder of data nor a hub.

They are made to show what federated fine-tuning with several experts is for. `tone` and `requests` ask
different things of the same kind of message, so that a model shared by both must fail one of them;
`answers` and `paraphrase` are about pairs, and "these belong together" is label 0 in one, 1 in the other.

A task is a module of this package with ``LABELS`` (two names) and ``texts(pick, label)``, which makes the
texts of one row; a module whose name starts with an underscore is no task.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Protocol, TypeVar, cast

from fedlease.core.errors import FedLeaseError
from fedlease.core.seeds import derive
from fedlease.tasks.base import Example

T = TypeVar("T")

TRAIN_ROWS, TEST_ROWS = 4000, 1000
"""Rows of a generated task when it is loaded as a data set."""


class Pick:
    """Seeded choices: what templates are filled with."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def one(self, items: Sequence[T]) -> T:
        """Return one of the items."""
        return items[int(self._random.random() * len(items))]

    def other(self, items: Sequence[T], than: T) -> T:
        """Return one of the items that is not ``than``."""
        return self.one([item for item in items if item != than])

    def chance(self, share: float) -> bool:
        """Return True in this share of calls."""
        return self._random.random() < share

    def number(self, low: int, high: int) -> int:
        """Return an integer from low to high, both possible."""
        return low + int(self._random.random() * (high - low + 1))

    def order(self, items: Sequence[T]) -> list[T]:
        """Return the items in a random order."""
        return sorted(items, key=lambda _: self._random.random())


class Recipe(Protocol):
    """What a module of this package offers."""

    LABELS: tuple[str, str]

    def texts(self, pick: Pick, label: int) -> tuple[str, ...]:
        """Make the texts of one row with this label."""


def names() -> tuple[str, ...]:
    """Return the names of the generated tasks, sorted."""
    return tuple(sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_")))


def labels(name: str) -> tuple[str, str]:
    """Return the two label names of a generated task."""
    return _recipe(name).LABELS


def generate(name: str, rows: int, seed: int) -> tuple[Example, ...]:
    """Make rows of a task: no texts twice, labels in turn, the same for the same seed everywhere.

    Raises:
        FedLeaseError: no such task, or more rows than its templates can make.
    """
    recipe = _recipe(name)
    pick = Pick(derive(seed, "generated", name))
    made: dict[tuple[str, ...], Example] = {}
    for row in range(rows):
        for _ in range(1000):
            texts = recipe.texts(pick, row % 2)
            if texts not in made:
                made[texts] = Example(texts, row % 2)
                break
        else:
            raise FedLeaseError(f"generated task '{name}' cannot make {rows} different rows; ask for fewer")
    return tuple(made.values())


@cache
def split(name: str) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Return the training and test rows of a generated task: always the same, no text in both."""
    rows = generate(name, TRAIN_ROWS + TEST_ROWS, seed=0)
    return rows[:TRAIN_ROWS], rows[TRAIN_ROWS:]


def _recipe(name: str) -> Recipe:
    if name not in names():
        raise FedLeaseError(f"no generated task is called '{name}'; there are: {', '.join(names())}")
    return cast(Recipe, import_module(f"{__name__}.{name}"))


def sentence(text: str) -> str:
    """Return a text with its first letter a capital and a full stop unless it ends in a mark already."""
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".?!" else text + "."


def words(text: str) -> tuple[str, ...]:
    """Return the items of a list written as one text, with commas between them."""
    return tuple(text.split(", "))
