"""How the machine computes: device, number format, attention kernel, threads, rows at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from fedlease.core.errors import FedLeaseError

Precision = Literal["auto", "float32", "bfloat16"]
Attention = Literal["auto", "eager", "sdpa"]
Quantization = Literal["none", "bnb-8bit", "bnb-4bit", "torchao-int8"]

MARGIN = 1.25
"""How many times as fast as the rule's choice a measured one must be to be taken: above what noise does."""

CUT = 1.1
"""The same for cutting batches: one layer, which is measured, shows less of it than the model does."""


@dataclass(frozen=True)
class Timings:
    """What a machine took for a model, see `fedlease.training.measured`.

    Attributes:
        step: number format and attention kernel, ``"bfloat16 eager"`` -> seconds of a training step.
        way: the one of them that what follows was measured in.
        train: rows that go through the model at once -> seconds a row, forwards and backwards.
        score: the same for scoring, forwards alone; for people, no run's choice hangs on it.
    """

    step: Mapping[str, float] = field(default_factory=dict)
    way: str = ""
    train: Mapping[int, float] = field(default_factory=dict)
    score: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A resolved choice, recorded with every run and used again when it is resumed.

    Attributes:
        device: ``"cpu"`` or ``"cuda"``.
        precision: number format of the frozen base; adapters and optimiser are always float32.
        attention: transformers' attention implementation.
        threads: threads of one process.
        why: the reason in words.
        train_rows: rows of a training batch that go through the model at once, where the spec leaves it
            open; 0 for all of them.
    """

    device: str
    precision: str
    attention: str
    threads: int
    why: str
    train_rows: int = 0

    @property
    def way(self) -> str:
        """Number format and attention kernel."""
        return f"{self.precision} {self.attention}"


def choose(
    device: str = "auto",
    precision: Precision = "auto",
    attention: Attention = "auto",
    threads: int | None = None,
    timings: Timings | None = None,
    batch_size: int = 0,
) -> Plan:
    """Resolve ``"auto"`` from what the processor can do, or from what was measured.

    A CPU that multiplies bfloat16 natively (AMX or AVX512-BF16) runs a frozen base several times faster in
    it, and there eager attention beats SDPA, whose backward is slow at small head sizes. Elsewhere float32
    with SDPA is the fastest that is safe; and all rows of a training batch go through the model at once. That
    is the rule. What was measured, ``timings``, decides on a CPU instead where it is clear: what is not
    `MARGIN` times as fast as the rule's choice is noise. How a batch of ``batch_size`` rows is cut (by `CUT`)
    it decides where that was measured in the number format and kernel that are chosen.

    Raises:
        FedLeaseError: CUDA is asked for and not there, or fewer than one thread.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise FedLeaseError(f"model.device is {device!r}; it can be auto, cpu or cuda")
    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise FedLeaseError("model.device is cuda, and torch finds no CUDA device here; use auto or cpu")
    if threads is not None and threads < 1:
        raise FedLeaseError(f"model.threads is {threads}; it must be at least 1")
    if cuda and device != "cpu":
        where, fast, best, why = "cuda", "bfloat16", "sdpa", "a CUDA device"
    elif cpu_multiplies_bfloat16():
        where, fast, best, why = "cpu", "bfloat16", "eager", "this CPU multiplies bfloat16 natively"
    else:
        where, fast, best, why = "cpu", "float32", "sdpa", "this CPU has no bfloat16 multiplication"
    fixed = precision, attention
    chosen = fast if precision == "auto" else precision
    if precision != "auto" or attention != "auto":
        why += "; partly pinned in the spec"
    if attention == "auto":
        attention = "sdpa" if chosen == "float32" else best  # type: ignore[assignment]
    plan = Plan(where, chosen, attention, threads or torch.get_num_threads(), why)
    if timings is None or where != "cpu":
        return plan
    plan = _as_measured(plan, timings.step, fixed)
    return replace(plan, train_rows=_pieces(timings.train, batch_size)) if plan.way == timings.way else plan


def _as_measured(plan: Plan, seconds: Mapping[str, float], fixed: tuple[str, str]) -> Plan:
    """The plan, or what was measured to be clearly faster among what is not pinned in the spec."""
    usual = plan.way
    free = {
        way: taken
        for way, taken in seconds.items()
        if all(pin in ("auto", part) for pin, part in zip(fixed, way.split(), strict=True))
    }
    if usual not in free:
        return plan
    best = min(free, key=lambda way: (free[way], way))
    if free[usual] < MARGIN * free[best]:
        return replace(plan, why=f"{plan.why}; measured here, nothing is clearly faster")
    precision, attention = best.split()
    why = f"measured here, {free[usual] / free[best]:.1f} times as fast as {usual}"
    return replace(plan, precision=precision, attention=attention, why=why)


def _pieces(seconds: Mapping[int, float], batch_size: int) -> int:
    """How many rows of a batch are best done at once; 0 where all of them are not clearly slower."""
    sizes = [size for size in seconds if size <= batch_size]
    if not sizes:
        return 0
    best = min(sizes, key=lambda size: (seconds[size], -size))
    return best if seconds[max(sizes)] >= CUT * seconds[best] else 0


def cpu_multiplies_bfloat16() -> bool:
    """Tell whether the processor has AMX-BF16 or AVX512-BF16 instructions."""
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
