"""What a method trains on a model, counted from shapes alone: the paper's % Param."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedlease.algorithms.registry import build
from fedlease.core.adapter import Modules, trainable
from fedlease.core.protocols import Algorithm
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
    return Parameters(count(network), trained(algorithm, modules_of(network), experts))


def trained(algorithm: Algorithm[Any], modules: Modules, experts: int) -> dict[str, int]:
    """Count what one client trains in a round of the main phase, by part of the adapter."""
    counts: dict[str, int] = {}
    for model, learn in algorithm.main_phase(modules, experts):
        for kind, number in trainable(model, learn).items():
            counts[kind] = counts.get(kind, 0) + number
    return counts


def told(algorithm: Algorithm[Any], modules: Modules, base: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a record tells of the parameters: ``{"base": number, "trained": {part: number}}``.

    Args:
        algorithm: the method of the run.
        modules: the adapted modules of the run's model.
        base: parameters of the model with its task head, without adapters.
        facts: what the method tells of its state. Experts are those of its allocation; 1 without one.
    """
    experts = int(facts.get("allocation", {}).get("num_experts", 1))
    return {"base": base, "trained": trained(algorithm, modules, experts)}
