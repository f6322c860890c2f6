"""How fast a model trains here in each number format and attention kernel: measured once, and remembered."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch

from fedlease.core.adapter import Adapter, Model, lora_init
from fedlease.core.errors import FedLeaseError
from fedlease.core.files import read_json, write_json
from fedlease.core.machine import processor
from fedlease.training.base import load_base
from fedlease.training.models import ALIASES, known_as, resolve
from fedlease.training.precision import Plan
from fedlease.training.resident import Resident

FORMATS, KERNELS = ("float32", "bfloat16"), ("sdpa", "eager")
RANK = 8


def measure(name: str, threads: int, rows: int, tokens: int, repeats: int = 5) -> dict[str, float]:
    """Time training steps of plain LoRA on a model on the CPU, each way in turn.

    Args:
        name: of the model, see `resolve`; its weights are in memory once for every number format.
        threads: of this process.
        rows, tokens: of the batch.
        repeats: steps of each way, after one that is not counted.

    Returns:
        ``"bfloat16 eager"`` and so on -> median seconds of a step.

    Raises:
        FedLeaseError: the model cannot be loaded or adapted.
    """
    torch.set_num_threads(threads)
    ways = dict(way for precision in FORMATS for way in _ways(name, precision, threads, rows, tokens))
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(repeats + 1):
        for way, step in ways.items():
            began = perf_counter()
            step()
            if turn:
                taken[way].append(perf_counter() - began)
    return {way: median(seconds) for way, seconds in taken.items()}


def _ways(
    name: str, precision: str, threads: int, rows: int, tokens: int
) -> Iterator[tuple[str, Callable[[], None]]]:
    """The base in one number format, with a step for each attention kernel."""
    plan = Plan("cpu", precision, KERNELS[0], threads, "to be measured")
    base = load_base(name, labels=[2], seed=0, plan=plan)
    resident = Resident(base)
    model = Model(Adapter(RANK), lora_init(base.modules, RANK, 0))
    network: Any = resident.put(model, 2).train()
    parameters = resident.learn(model.adapter, ("A", "B"))
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(network.config.vocab_size, (rows, tokens), generator=draw)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.arange(rows) % 2}

    def step(kernel: str) -> None:
        network.set_attn_implementation(kernel)
        network(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    for kernel in KERNELS:
        yield f"{precision} {kernel}", lambda kernel=kernel: step(kernel)  # type: ignore[misc]


def place() -> Path:
    """The file of what was measured on this machine: under ``XDG_CACHE_HOME`` (``~/.cache``)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fedlease" / "plans.json"


def remember(name: str, threads: int, seconds: Mapping[str, float]) -> Path:
    """Write down what was measured, and return where.

    Raises:
        FedLeaseError: it cannot be written, or what is there is damaged.
    """
    path = place()
    known = read_json(path) if path.is_file() else {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FedLeaseError(f"cannot make {path.parent}: {error.strerror}") from error
    write_json(path, {**known, _key(name, threads): dict(seconds)})
    return path


def recall(name: str, threads: int, beside: Path | None = None) -> dict[str, float]:
    """Return what was measured for a model with so many threads on this machine; empty if nothing was.

    A relative path is meant from ``beside``, see `resolve`.

    Raises:
        FedLeaseError: the file is damaged.
    """
    path = place()
    if not path.is_file():
        return {}
    key = _key(name, threads, beside)
    try:
        return {str(way): float(taken) for way, taken in read_json(path).get(key, {}).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise FedLeaseError(f"{path} is damaged: remove it, and run 'fedlease tune' again") from error


def _key(name: str, threads: int, beside: Path | None = None) -> str:
    """What a measurement holds for: the model by its name or folder, threads, processor, torch."""
    known = ALIASES.get(name.lower(), name.lower())
    model = known if known_as(name) else resolve(name, beside)
    return f"{model}, {threads} threads, {processor()}, torch {torch.__version__}"
