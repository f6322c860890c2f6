"""Comparing thousands of clients: every update as a short random sketch, read once and kept instead of it.

Exact inner products of N clients take N^2 (l + d) r^2 operations a module: 1.6e14 in float64 for 10,000
adapters of RoBERTa-large's size, and every adapter is read many times. A sketch is s = ``size`` numbers a
module whose inner products are, in the mean over seeds, those of the updates. The standard deviation of a
cosine is about 1 / sqrt(s) a module, and that of the mean over modules less.

B and A are rotated: signs are flipped at random, then a cosine transform is taken along l and along d. So
what is large anywhere is spread evenly over B A, and s of its entries stand for all. They are taken evenly
too: every row as often as any other, and every column, in seeded order. B A is never formed. Where l d is no
more than s, all entries are taken and nothing is lost. For ``"b"`` the update is one column of l r numbers.

A sketch is linear: the mean of the sketches is the sketch of the mean, so centring needs nothing else, and an
expert's centre is kept as a sketch as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dct

from fedlease.allocation.distances import SMALLEST_NORM, compare
from fedlease.allocation.updates import (
    Distance,
    Matrix,
    Update,
    check_alike,
    check_distance,
    updates_of,
    zero_update,
)
from fedlease.core.seeds import generator
from fedlease.core.weights import Weights

SIZE = 1024
"""Numbers of a sketch a module."""

CHECKED = 48
"""Clients whose distances are computed both ways, to state the error."""

ROWS = 512
"""Clients that are normalised at once, twice."""

Single = NDArray[np.float32]


@dataclass(frozen=True)
class Sketch:
    """How an allocation's clients were sketched.

    Attributes:
        size: numbers a module.
        seed: of signs and entries.
        error: the root mean square of sketched less exact distances, among ``checked`` clients that the seed
            chose, compared with each other alone.
        checked: how many.
    """

    size: int
    seed: int
    error: float = 0.0
    checked: int = 0


class _Drawn(NamedTuple):
    """What is drawn for one module: signs [l] and [d], entries' rows and columns [s'], s' = min(s, l d)."""

    down: Single
    across: Single
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]


class Sketcher:
    """Sketches updates of given modules and shapes; equal for equal sizes, seeds, names and shapes.

    Attributes:
        starts: where each module's numbers begin, modules in the order of their names.
        width: numbers of all modules together.
    """

    def __init__(self, like: Mapping[str, Update], size: int, seed: int) -> None:
        self._drawn = {name: _draw(name, *_matrix(like[name]), size, seed) for name in sorted(like)}
        ends = np.cumsum([len(drawn.rows) for drawn in self._drawn.values()])
        self.starts = np.concatenate([[0], ends[:-1]])
        self.width = int(ends[-1])

    def __call__(self, updates: Mapping[str, Update]) -> Single:
        """Return the sketch of one client's updates, float32 [width]."""
        out = np.empty(self.width, dtype=np.float32)
        for start, (name, drawn) in zip(self.starts, self._drawn.items(), strict=True):
            b, a = _factors(updates[name])
            left = dct(b.astype(np.float32) * drawn.down, axis=1, norm="ortho")
            right = dct(a.astype(np.float32) * drawn.across, axis=1, norm="ortho")
            entries = (left[:, drawn.rows] * right[:, drawn.columns]).sum(axis=0)
            entries *= np.sqrt(b.shape[1] * a.shape[1] / len(entries), dtype=np.float32)
            out[start : start + len(entries)] = entries
        return out

    def by_module(self, sketch: Single) -> dict[str, Single]:
        """Return a sketch's numbers by module."""
        return dict(zip(self._drawn, np.split(sketch, self.starts[1:]), strict=True))


def _draw(name: str, l: int, d: int, size: int, seed: int) -> _Drawn:  # noqa: E741, the paper's name
    random = generator(seed, "sketch", name, l, d, size)

    def signs(length: int) -> Single:
        drawn: Single = (2 * torch.randint(2, (length,), generator=random) - 1).to(torch.float32).numpy()
        return drawn

    def evenly(length: int) -> NDArray[np.int64]:
        turns = [torch.randperm(length, generator=random) for _ in range(-(-size // length))]
        drawn: NDArray[np.int64] = torch.cat(turns)[:size].numpy()
        return drawn

    down, across = signs(l), signs(d)
    if l * d <= size:
        every = np.arange(l * d)
        return _Drawn(down, across, every // d, every % d)
    return _Drawn(down, across, evenly(l), evenly(d))


def _matrix(update: Update) -> tuple[int, int]:
    """The update's rows and columns, l and d; l r and 1 where B alone counts."""
    b, a = update
    return (b.size, 1) if a is None else (b.shape[0], a.shape[1])


def _factors(update: Update) -> tuple[Matrix, Matrix]:
    """B^T [r, l] and A [r, d] whose product is the update."""
    b, a = update
    return (b.reshape(1, -1), np.ones((1, 1))) if a is None else (np.ascontiguousarray(b.T), a)


def sketches(weights: Mapping[str, Weights], distance: Distance, sketcher: Sketcher) -> Iterator[Single]:
    """Yield the sketch of every client in the order of ``weights``, each read once and let go.

    Raises:
        FedLeaseError: weights that cannot be compared, see `compare`.
    """
    first: dict[str, dict[str, Update]] = {}
    for client in weights:
        updates = updates_of(client, weights[client], distance)
        first = first or {client: updates}
        check_alike({**first, client: updates}, same_rank=distance == "b")
        yield sketcher(updates)


class Sketched:
    """Clients' sketches, float32 [N, width], and what they tell of the clients' updates.

    Attributes:
        distances: as `compare` gives them, from sketches.
    """

    def __init__(
        self, weights: Mapping[str, Weights], distance: Distance, centered: bool, size: int, seed: int
    ) -> None:
        check_distance(distance)
        first = next(iter(weights))
        sketcher = Sketcher(updates_of(first, weights[first], distance), size, seed)
        self._starts = sketcher.starts
        self._held: Single = np.empty((len(weights), sketcher.width), dtype=np.float32)
        for row, sketch in enumerate(sketches(weights, distance, sketcher)):
            self._held[row] = sketch
        mean = np.zeros(self._held.shape[1])
        squares = []
        for rows in self._blocks():
            mean += self._held[rows].sum(axis=0, dtype=np.float64)
            squares.append(self._squares(self._held[rows]))
        norms = np.concatenate(squares)
        for client, row_norms in zip(weights, norms, strict=True):
            if not row_norms.any():
                raise zero_update(client)
        self._scale = norms.mean(axis=0)
        self._mean = (mean / len(norms)).astype(np.float32)
        self.distances = self._distances(centered)

    def share_between(self, labels: Sequence[int]) -> float:
        """Return what `deciding.share_between` says of the mean cosines of the updates as they are.

        From the sum of a cluster's normalised sketches, so in O(N).
        """
        own = np.asarray(labels)
        sums = np.zeros((int(own.max()) + 1, self._held.shape[1]))
        alone = 0.0
        for rows in self._blocks():
            units = self._units(rows, centered=False)
            sums += (own[rows] == np.arange(len(sums))[:, None]).astype(np.float32) @ units
            alone += float(self._squares(units).sum())
        counts = np.bincount(own).astype(np.float64)
        together = float((sums**2).sum())
        pairs = float((counts**2).sum()), float(counts.sum() ** 2)
        within = (together - alone) / (pairs[0] - counts.sum())
        between = (float((sums.sum(axis=0) ** 2).sum()) - together) / (pairs[1] - pairs[0])
        return between / within if within > 0 else 1.0

    def _distances(self, centered: bool) -> Matrix:
        clients = len(self._held)
        distances = np.empty((clients, clients))
        for rows in self._blocks():
            left = self._units(rows, centered)
            for columns in self._blocks():
                if columns.start > rows.start:
                    break
                right = left if columns == rows else self._units(columns, centered)
                cosine = (left @ right.T).astype(np.float64) / len(self._starts)
                if columns == rows:
                    cosine = (cosine + cosine.T) / 2
                distances[rows, columns] = np.clip(1 - cosine, 0.0, 2.0)
                distances[columns, rows] = distances[rows, columns].T
        np.fill_diagonal(distances, 0.0)
        return distances

    def _blocks(self) -> list[slice]:
        clients = len(self._held)
        return [slice(start, min(start + ROWS, clients)) for start in range(0, clients, ROWS)]

    def _units(self, rows: slice, centered: bool) -> Single:
        """Return sketches [n, width] of length 1 in every module, of length 0 where there is no update."""
        held = self._held[rows] - self._mean if centered else self._held[rows].copy()
        squares = self._squares(held)
        there = squares > SMALLEST_NORM * self._scale
        factors = np.where(there, 1 / np.sqrt(np.where(there, squares, 1.0)), 0.0).astype(np.float32)
        widths = np.diff([*self._starts, held.shape[1]])
        held *= np.repeat(factors, widths, axis=1)
        return held

    def _squares(self, held: Single) -> Matrix:
        """Return squared lengths by module, float64 [n, modules]."""
        by_module = [np.einsum("nk,nk->n", part, part) for part in np.split(held, self._starts[1:], axis=1)]
        return np.stack(by_module, axis=1).astype(np.float64)


def measured(weights: Mapping[str, Weights], distance: Distance, centered: bool, sketch: Sketch) -> Sketch:
    """Return the sketch with its error on a few clients of these, compared with each other alone."""
    clients = list(weights)
    order = torch.randperm(len(clients), generator=generator(sketch.seed, "checked", len(clients)))
    chosen = {clients[i]: weights[clients[i]] for i in sorted(order[:CHECKED].tolist())}
    exact = compare(chosen, distance, centered).distances
    found = Sketched(chosen, distance, centered, sketch.size, sketch.seed).distances
    pairs = np.triu_indices(len(chosen), 1)
    error = float(np.sqrt(np.mean((found - exact)[pairs] ** 2)))
    return Sketch(sketch.size, sketch.seed, error, len(chosen))
