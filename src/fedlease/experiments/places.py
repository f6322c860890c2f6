"""What a spec leaves to its surroundings: where data and model lie, and how the machine computes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from fedlease.data.where import VARIABLE
from fedlease.experiments.spec import Spec
from fedlease.training.models import resolve
from fedlease.training.precision import Plan, choose
from fedlease.training.timings import VARIABLE as NOT_MEASURED
from fedlease.training.timings import measure_once, recall


@dataclass(frozen=True)
class Places:
    """What a spec leaves to its surroundings, settled once and kept with the run.

    Attributes:
        beside: the folder that relative paths in the spec are meant from.
        root: the folder of named data sets; None for the hub.
        model: the folder or hub id of the base model.
        plan: how the machine computes.
    """

    beside: Path
    root: Path | None
    model: str
    plan: Plan


def settle(spec: Spec, beside: Path) -> Places:
    """Find data and model, and resolve every ``auto``.

    Raises:
        FedLeaseError: a device that is not there.
    """
    model = spec.model
    plan = planned(spec, _threads(spec), model.name, beside)
    root = spec.data.root if spec.data.root is not None else os.environ.get(VARIABLE)
    start = beside if spec.data.root is not None else Path.cwd()
    found = None if not root else (start / root).resolve()
    return Places(beside.resolve(), found, resolve(model.name, beside), plan)


def measure_first(spec: Spec, beside: Path, tell: Callable[[str], None] = lambda _: None) -> None:
    """Measure how this machine computes the base model fastest, once, where a run leaves that open.

    Args:
        spec: of the run.
        beside: the folder that relative paths in the spec are meant from.
        tell: told that it begins, for it takes seconds, or why it does not.

    Raises:
        FedLeaseError: the file of what was measured is damaged.
    """
    if by_measurement(spec):
        measure_once(spec.model.name, _threads(spec), spec.model.targets, beside, tell)


def known_here(spec: Spec, beside: Path) -> bool:
    """Whether nothing is to be measured for a run: it was, or never is.

    Raises:
        FedLeaseError: the file of what was measured is damaged.
    """
    return not by_measurement(spec) or recall(spec.model.name, _threads(spec), beside) is not None


def planned(spec: Spec, threads: int, model: str, beside: Path | None = None) -> Plan:
    """Resolve what the spec leaves to the machine: as measured before, else by the rule of `choose`.

    Args:
        spec: of the run.
        threads: of a process.
        model: the base model's name, or where it lies here.
        beside: the folder that relative paths are meant from.

    Raises:
        FedLeaseError: a device that is not there, or a damaged file of what was measured.
    """
    told = spec.model
    timings = recall(model, threads, beside) if by_measurement(spec) else None
    return choose(told.device, told.precision, told.attention, threads, timings, spec.training.batch_size)


def by_measurement(spec: Spec) -> bool:
    """Whether something is open that was or can be measured: on a CPU, of a base that is not quantised."""
    model = spec.model
    open_ = "auto" in (model.precision, model.attention) or spec.training.micro_batch_size is None
    on_cpu = model.device == "cpu" or (model.device == "auto" and not torch.cuda.is_available())
    return open_ and on_cpu and model.quantization == "none" and os.environ.get(NOT_MEASURED) != "0"


def _threads(spec: Spec) -> int:
    return spec.model.threads or torch.get_num_threads()
