"""Ways to do one thing, timed in turn in one process, so that their ratios hold on a busy machine too."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import torch

from fedlease.core.files import write_json


def clock() -> tuple[Callable[[], float], str]:
    """Seconds to measure by, and what to call them.

    With one thread the processor's own: nothing that runs beside is in them. With more they would be
    summed over threads, so it is the clock on the wall.
    """
    if torch.get_num_threads() == 1:
        return process_time, "CPU seconds"
    return perf_counter, "seconds"


def in_turn(
    ways: Mapping[str, Callable[[], object]], repeats: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Do every way once, then again, and so on; return each one's seconds, without the first rounds."""
    now, _ = clock()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + warm_up):
        for name, way in ways.items():
            began = now()
            way()
            if repeat >= warm_up:
                seconds[name].append(now() - began)
    return seconds


def ratio(seconds: Mapping[str, list[float]], name: str, beside: str) -> float:
    """How many times as long one way takes as another: the median over the rounds of turns."""
    return median(a / b for a, b in zip(seconds[name], seconds[beside], strict=True))


def write(given: argparse.Namespace, **found: object) -> None:
    """Write what was found to the file ``given.out`` as JSON, with the options that name no file."""
    load = {key: value for key, value in vars(given).items() if not isinstance(value, Path)}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(given.out, {"load": load, **found})
