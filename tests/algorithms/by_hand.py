"""What tests of methods compute by hand on the toy, in float64 and without the methods' code."""

from __future__ import annotations

import numpy as np
from toy import MODULES

from fedlease.core.adapter import lora_init

A, B = "layer.0.query.A", "layer.0.query.B"
a, b = 2 * 8 * 4, 2 * 5 * 4  # bytes of A and B of both modules at rank 2


def start(key: str, rank: int = 2) -> np.ndarray:
    """What all clients start from with seed 0."""
    return lora_init(MODULES, rank, 0)[key].double().numpy()


def goal(shape: tuple[int, ...], target: float) -> np.ndarray:
    """Where a client of the toy pulls a tensor of that shape to."""
    wave = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    return np.cos(wave * (1 + target)) + target


def halfway(value: np.ndarray, target: float) -> np.ndarray:
    """The tensor after a client of that target has trained it once."""
    return value + 0.5 * (goal(value.shape, target) - value)


def fedlease_by_hand(clusters: list[list[float]], key: str, rounds: int) -> np.ndarray:
    """Eq. 3 after one round alone, then Algorithm 1's averages: [M, ...]."""
    experts = [np.mean([halfway(start(key), target) for target in members], axis=0) for members in clusters]
    for _ in range(rounds - 1):
        experts = [
            np.mean([halfway(expert, target) for target in members], axis=0)
            for expert, members in zip(experts, clusters, strict=True)
        ]
    return np.stack(experts)
