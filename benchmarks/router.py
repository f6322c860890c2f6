"""What the adaptive top-M router costs, beside two plainer ways to write it. Prints medians, interleaved.

python benchmarks/router.py [--tokens 4096] [--threads 1] [--repeats 30]
"""

from __future__ import annotations

import argparse
from statistics import median
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from fedlease.tuner.router import adaptive_top_m


def fold(kept: Tensor, experts: int) -> Tensor:
    """The assigned expert's slots summed, then the others: [..., 2M-1] -> [..., M]."""
    return torch.cat([kept[..., :experts].sum(-1, keepdim=True), kept[..., experts:]], -1)


def by_sorting(logits: Tensor, experts: int) -> Tensor:
    """A stable sort of all slots, the first M kept."""
    weights = torch.softmax(logits.float(), -1)
    order = torch.sort(logits.detach(), dim=-1, descending=True, stable=True).indices[..., :experts]
    return fold(weights * torch.zeros_like(weights).scatter(-1, order, 1.0), experts)


def by_threshold(logits: Tensor, experts: int) -> Tensor:
    """The M-th largest as a threshold, ties by a cumulative sum."""
    weights = torch.softmax(logits.float(), -1)
    lowest = torch.topk(logits.detach(), experts, dim=-1).values[..., -1:]
    above, equal = logits > lowest, logits == lowest
    room = experts - above.sum(-1, keepdim=True)
    return fold(weights * (above | (equal & (equal.cumsum(-1) <= room))), experts)


WAYS = {"stable sort": by_sorting, "threshold": by_threshold, "fedlease": adaptive_top_m}


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--tokens", type=int, default=4096)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--repeats", type=int, default=30)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    table = Table("experts", *WAYS, title=f"microseconds forward and backward, {given.tokens} tokens, fp32")
    for experts in (2, 4, 8, 16):
        logits = torch.randn(given.tokens, 2 * experts - 1)
        times: dict[str, list[float]] = {name: [] for name in WAYS}
        for repeat in range(given.repeats + 3):
            for name, way in WAYS.items():
                leaf = logits.clone().requires_grad_()
                began = perf_counter()
                way(leaf, experts).square().sum().backward()
                if repeat >= 3:
                    times[name].append(1e6 * (perf_counter() - began))
        table.add_row(str(experts), *(f"{median(times[name]):.0f}" for name in WAYS))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
