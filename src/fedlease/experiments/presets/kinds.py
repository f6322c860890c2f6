"""What a preset is made of: runs with their places in a table, at a size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fedlease.core.errors import FedLeaseError

Values = Mapping[str, Any]
"""Plain values of a spec, as in its TOML."""


@dataclass(frozen=True)
class Size:
    """How large the runs of a preset are.

    Attributes:
        name: ``"small"`` or ``"paper"``.
        base: of every run's spec: model, rounds, scoring, training.
        train_rows, test_rows: of every client.
        clients: of every task, where the table does not say otherwise.
        seeds: of every entry of a table.
        rates: the learning rates to choose from.
        trial: what a trial of a learning rate changes in the spec.
        trial_clients: of every task, in trials.
        trial_rows: held-out rows that every client of a trial is scored on.
    """

    name: str
    base: Values
    train_rows: int
    test_rows: int
    clients: int
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    trial: Values
    trial_clients: int
    trial_rows: int


@dataclass(frozen=True)
class Cell:
    """One entry of a table or figure: a run for every seed.

    Attributes:
        row: what it is called there.
        spec: plain values without seed, name and learning rate.
        rate: the trials that its learning rate is taken from: a key of `Preset.trials`; see `tuned`.
        section: which part of the table it belongs to, where there are several.
    """

    row: str
    spec: Values
    rate: str
    section: str = ""


@dataclass(frozen=True)
class Preset:
    """A table or figure.

    Attributes:
        name: ``"table1"`` ... ``"fig9"``.
        title: what it shows.
        cells: the entries at a size, in their order.
        trials: at a size, for each key that a cell takes its learning rate from: the spec that is tried.
        sizes: by name.
    """

    name: str
    title: str
    cells: Callable[[Size], tuple[Cell, ...]]
    trials: Callable[[Size], Mapping[str, Values]]
    sizes: Mapping[str, Size]

    def size(self, name: str) -> Size:
        """Return the size of that name.

        Raises:
            FedLeaseError: there is none; the message lists those there are.
        """
        try:
            return self.sizes[name]
        except KeyError:
            known = ", ".join(self.sizes)
            raise FedLeaseError(f"{self.name} has no size {name!r}; it has: {known}") from None
