"""What a method trains on a model, counted from shapes alone: the paper's % Param."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fedlease.algorithms.registry import build
from fedlease.core.adapter import Learn, Model, trainable
from fedlease.training.shapes import count, modules_of, on_meta


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters.

    Attributes:
        base: of the base model with its task head, without adapters.
        by_part: trained by one client in the main phase, by part of the adapter.
    """

    base: int
    by_part: dict[str, int]

    @property
    def trainable(self) -> int:
        """Trained by one client, all parts."""
        return sum(self.by_part.values())

    @property
    def percent(self) -> float:
        """Trained in percent of the base: the % Param of Tables 1 and 3."""
        return 100 * self.trainable / self.base


def parameters(model: str, method: str, rank: int, experts: int, labels: int = 2) -> Parameters:
    """Count what one client trains.

    Args:
        model: a known name or a config.json; built on the meta device.
        method: a method's name.
        rank: of every LoRA adapter.
        experts: M, for methods that have several.
        labels: of the task head, for classifiers.

    Raises:
        FedLeaseError: no such model or method, or a rank or number of experts that cannot be.
    """
    network = on_meta(model, labels)
    algorithm = build(method, rank=rank)
    return Parameters(count(network), trained(algorithm.main_phase(modules_of(network), experts)))


def trained(work: Iterable[tuple[Model, Learn]]) -> dict[str, int]:
    """Add up, by part, what one client trains in the pieces of work of its main phase."""
    counts: dict[str, int] = {}
    for model, learn in work:
        for kind, number in trainable(model, learn).items():
            counts[kind] = counts.get(kind, 0) + number
    return counts
