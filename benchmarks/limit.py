"""How near to what the machine multiplies a training step comes, and where its time goes. From one run.

    python benchmarks/limit.py [--precision bfloat16] [--rows 128] [--tokens 32] [--experts 4]

The ceiling is the most floating-point operations a second of any product tried: large squares and the
step's own largest shapes, in turn with the step. A step's operations are those of its matrix products,
counted by torch; for a BERT they are also reckoned by hand, and must agree. The share by kind of work is the
profiler's, of the step without its optimiser.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fedlease.training.base import Base
from step import LABELS, RANK, load, mixture, tokens, training
from turns import clock, in_turn, write

KINDS = {
    "products": ("mm", "addmm", "bmm", "baddbmm", "linear"),
    "GELU": ("gelu", "gelu_backward"),
    "softmax": ("_softmax", "_softmax_backward_data"),
    "layer norm": ("native_layer_norm", "native_layer_norm_backward"),
    "sums": ("add", "add_", "sum"),
    "copies": ("copy_", "cat", "clone", "fill_", "zero_"),
}
"""Names of kernels by kind of work; what is in none is called the rest."""


def by_hand(base: Base, rows: int, length: int, experts: int) -> int:
    """Operations of a step of a BERT of width h and inner width f, two for each multiplied pair.

    Frozen weights have no gradient, so a linear module costs its forward again for the gradient of its
    input; the first layer's input has none, and so neither has its key projection. Attention has two
    products a layer, and the gradients of both factors of each, but for the first layer's keys.
    """
    config: Any = base.model.config
    h, f, layers, n = config.hidden_size, config.intermediate_size, config.num_hidden_layers, rows * length
    attention = 2 * n * length * h
    forward = layers * (2 * n * (4 * h * h + 2 * h * f) + 2 * attention)
    backward = layers * (2 * n * (4 * h * h + 2 * h * f) + 4 * attention) - 2 * n * 3 * h * h - attention
    head = 2 * (2 * rows * h * h + 2 * rows * h * LABELS)  # the pooler and the classifier
    slots = 2 * experts - 1 if experts > 1 else 0
    # Down and up, forward, for the input's gradient and for what trains: own expert and router.
    down, up = slots + experts * RANK, experts * RANK
    trained = slots + 2 * RANK
    adapters = 2 * layers * 2 * n * h * (2 * (down + up) + trained) - 2 * 2 * n * h * down
    return forward + backward + head + adapters


def products(base: Base, count: int, dtype: torch.dtype) -> dict[str, tuple[Any, int]]:
    """Products to find the ceiling by, with their operations: squares, and the shapes of the base."""
    config: Any = base.model.config
    h, f = config.hidden_size, config.intermediate_size
    made: dict[str, tuple[Any, int]] = {}
    for m, k, n in ((1024, 1024, 1024), (2048, 2048, 2048), (count, h, f), (count, f, h), (count, h, h)):
        a, b = torch.randn(m, k).to(dtype), torch.randn(n, k).to(dtype)

        def multiply(a: Tensor = a, b: Tensor = b) -> Tensor:
            return a @ b.T

        made[f"{m} x {k} x {n}"] = (multiply, 2 * m * k * n)
    return made


def shares(step: Any) -> dict[str, float]:
    """The part of a step's time by kind of work, in percent, longest first."""
    with torch.profiler.profile() as profile:
        step()
    kind_of = {f"aten::{name}": kind for kind, names in KINDS.items() for name in names}
    spent: dict[str, float] = defaultdict(float)
    for event in profile.key_averages():
        spent[kind_of.get(event.key, "the rest")] += event.self_cpu_time_total
    whole = sum(spent.values())
    return {kind: 100 * spent[kind] / whole for kind in sorted(spent, key=lambda kind: -spent[kind])}


def main() -> None:
    """Measure, print, write."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--model", default="minilm")
    options.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    options.add_argument("--attention", choices=("auto", "eager", "sdpa"), default="auto")
    options.add_argument("--rows", type=int, default=128)
    options.add_argument("--tokens", type=int, default=32)
    options.add_argument("--experts", type=int, default=4, help="1: plain LoRA")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--repeats", type=int, default=7)
    options.add_argument("--out", type=Path, default=Path("runs/benchmark-limit.json"))
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    base = load(given.model, given.precision, given.threads, given.attention)
    step = training(mixture(base, given.experts), tokens(given.rows, given.tokens)).step
    with FlopCounterMode(display=False) as counter:
        step()
    flops = counter.get_total_flops()
    tried = products(base, given.rows * given.tokens, getattr(torch, given.precision))
    seconds = in_turn({"step": step, **{name: work for name, (work, _) in tried.items()}}, given.repeats)
    rates = {name: count / median(seconds[name]) / 1e9 for name, (_, count) in tried.items()}
    fastest = max(rates, key=rates.__getitem__)
    rate = flops / median(seconds["step"]) / 1e9
    found: dict[str, Any] = {
        "attention": base.model.config._attn_implementation,
        "step_s": median(seconds["step"]),
        "flops": flops,
        "products_gflops": rates,
        "step_gflops": rate,
        "of_ceiling_percent": 100 * rate / rates[fastest],
        "time_percent": shares(step),
    }
    if base.model.config.model_type == "bert" and found["attention"] == "eager":
        found["flops_by_hand"] = by_hand(base, given.rows, given.tokens, given.experts)
    show(given, found, fastest)
    write(given, **found)


def show(given: argparse.Namespace, found: dict[str, Any], fastest: str) -> None:
    """Print it in words."""
    screen = Console(width=120, highlight=False)
    screen.print(
        f"{given.model}, {given.precision}, {found['attention']} attention, {given.rows} x "
        f"{given.tokens} tokens, {given.threads} threads, medians of {given.repeats}"
    )
    hand = f", by hand {found['flops_by_hand'] / 1e9:.3f}" if "flops_by_hand" in found else ""
    screen.print(f"a step: {found['step_s']:.3f} {clock()[1]}, {found['flops'] / 1e9:.3f} GFLOP{hand}")
    for name, rate in found["products_gflops"].items():
        screen.print(f"  {name}: {rate:.0f} GFLOP/s{' (the ceiling)' if name == fastest else ''}")
    screen.print(
        f"the step: {found['step_gflops']:.0f} GFLOP/s, {found['of_ceiling_percent']:.0f} % of the ceiling; "
        "55 % asked in bfloat16"
    )
    parts = ", ".join(f"{kind} {share:.0f} %" for kind, share in found["time_percent"].items())
    screen.print(f"its time: {parts}")


if __name__ == "__main__":
    main()
