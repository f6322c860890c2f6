"""FedLEASE's training step beside plain LoRA's and beside masked experts. Prints ratios from one run.

    python benchmarks/step.py [--model minilm] [--precision float32] [--experts 2 4 8 16] [--masked 4 8]

A step is forward, backward and AdamW on random tokens: PEFT's own LoRA of the same rank, fedlease's
mixture of M experts, and the same mixture written with masks, M x M passes over every expert. All stand
on the same frozen weights and are done in turn; how far the masked form's loss is from ours is in the JSON.
On a bfloat16 base PEFT computes LoRA in float32 unless told otherwise; told otherwise is measured too. Peaks
are of the tensors that a step makes, counted by torch's profiler, with and without the frozen base.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

from fedlease.tasks import classification
from fedlease.training.base import Base, load_base
from fedlease.training.precision import choose
from fedlease.tuner import FedLeaseConfig, FedLeaseLayer
from turns import clock, in_turn, ratio, write

RANK, ALPHA, LABELS = 4, 16, 2
MOST = {"float32": {4: 1.05, 16: 1.15}, "bfloat16": {4: 1.10, 16: 1.20}}
"""Ratio to plain LoRA that is asked for, by precision and M."""
LEAST = {"float32": {4: 2.0, 8: 5.0}}
"""Ratio of the masked form to ours that is asked for."""


class Masked(FedLeaseLayer):
    """The same parameters as the published code applies them: for each place in the top M every expert.

    An expert runs over all tokens, is multiplied by a mask, and is left out where no token chose it.
    """

    def _update(self, x: Tensor, name: str) -> Tensor:
        adapter = self.adapters[name]
        omega = torch.softmax(functional.linear(x, self.fedlease_router[name].to(x.dtype)).float(), -1)
        weights, slots = omega.topk(adapter.experts, -1)
        experts = (slots - (adapter.experts - 1)).clamp(min=0)  # the first M slots are the assigned one's
        A = [self.fedlease_A[name], *self.fedlease_frozen_A[name]]
        B = [self.fedlease_B[name], *self.fedlease_frozen_B[name]]
        result = x.new_zeros(*x.shape[:-1], self.out_features)
        for place in range(adapter.experts):
            for expert in range(adapter.experts):
                mask = experts[..., place] == expert
                if not mask.any():
                    continue
                down = functional.linear(x, A[expert].to(x.dtype))
                up = functional.linear(down, B[expert].to(x.dtype))
                weight = torch.zeros_like(weights[..., place])
                weight[mask] = weights[..., place][mask]
                result = result + weight.to(x.dtype).unsqueeze(-1) * up * (adapter.alpha / adapter.rank)
        return result


@dataclass(frozen=True)
class Way:
    """One way to train: a whole step on the tokens, and the loss alone."""

    step: Callable[[], None]
    loss: Callable[[], Tensor]


def adapted(base: Base, config: Any, masked: bool = False, exact: bool = True) -> nn.Module:
    """The base with an adapter on a copy of its modules that shares all of its weights."""
    shared = {id(tensor): tensor for tensor in (*base.model.parameters(), *base.model.buffers())}
    torch.manual_seed(0)
    model: nn.Module = get_peft_model(copy.deepcopy(base.model, shared), config, autocast_adapter_dtype=exact)
    if masked:
        for module in model.modules():
            if isinstance(module, FedLeaseLayer):
                module.__class__ = Masked
    return model.train()


def training(model: nn.Module, batch: dict[str, Tensor]) -> Way:
    """A step of AdamW on the adapter's parameters."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)

    def loss() -> Tensor:
        return classification.loss(model, batch)

    def step() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return Way(step, loss)


def plain(base: Base, exact: bool = True) -> nn.Module:
    """PEFT's own LoRA: as it comes, in float32, or in the base's number format."""
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(base.modules))
    return adapted(base, config, exact=exact)


def mixture(base: Base, experts: int, masked: bool = False) -> nn.Module:
    """A mixture whose experts all do something and whose router has opinions."""
    config = FedLeaseConfig(
        r=RANK,
        lora_alpha=ALPHA,
        target_modules=list(base.modules),
        num_experts=experts,
        router_init="normal" if experts > 1 else "zeros",
        init_lora_weights=False,
    )
    return adapted(base, config, masked)


def tokens(rows: int, length: int) -> dict[str, Tensor]:
    """A batch without padding."""
    ids = torch.randint(1000, 20000, (rows, length), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.arange(rows) % LABELS}


def load(model: str, precision: Any, threads: int, attention: Any = "auto") -> Base:
    """The base as a run would have it, with its head in place."""
    plan = choose("cpu", precision, attention, threads)
    base = load_base(model, labels=(LABELS,), seed=0, plan=plan)
    setattr(base.model, base.head_name, base.heads[LABELS])
    return base


def peak(work: Callable[[], None]) -> int:
    """Most bytes of tensors that were there at once and not before."""
    with torch.profiler.profile(profile_memory=True) as profile:
        work()
    with tempfile.TemporaryDirectory() as folder:
        profile.export_chrome_trace(f"{folder}/trace.json")
        events = json.loads(Path(folder, "trace.json").read_text())["traceEvents"]
    changes = [event for event in events if event.get("name") == "[memory]"]
    held = most = 0
    for change in sorted(changes, key=lambda event: event["ts"]):
        held += change["args"]["Bytes"]
        most = max(most, held)
    return most


def measure(base: Base, precision: str, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Every way's median seconds, ratio to plain LoRA and peak; of the masked form also that to ours."""
    batch = tokens(given.rows, given.tokens)
    models = {"plain LoRA": plain(base)}
    if precision == "bfloat16":
        models["plain LoRA, all bf16"] = plain(base, exact=False)
    models |= {f"fedlease, M = {M}": mixture(base, M) for M in given.experts}
    models |= {f"masked, M = {M}": mixture(base, M, masked=True) for M in given.masked}
    ways = {name: training(model, batch) for name, model in models.items()}
    first = {name: float(way.loss().detach()) for name, way in ways.items()}
    peaks = {name: peak(way.step) for name, way in ways.items()}
    seconds = in_turn({name: way.step for name, way in ways.items()}, given.repeats)
    weights = sum(p.numel() * p.element_size() for p in base.model.parameters())
    found = []
    for name in ways:
        kind, _, number = name.partition(", M = ")
        row: dict[str, Any] = {"way": name, "precision": precision, "seconds": median(seconds[name])}
        row["ratio"] = ratio(seconds, name, "plain LoRA")
        row["peak_MiB"] = peaks[name] / 2**20
        row["peak_ratio"] = peaks[name] / peaks["plain LoRA"]
        row["peak_ratio_with_base"] = (weights + peaks[name]) / (weights + peaks["plain LoRA"])
        ours = f"fedlease, M = {number}"
        if kind == "fedlease" and int(number) in MOST[precision]:
            row["asked"] = f"at most {MOST[precision][int(number)]:.2f}"
        if kind == "masked" and ours in ways:
            row["slower_than_ours"] = ratio(seconds, name, ours)
            row["loss_differs_by"] = abs(first[name] - first[ours])
            if int(number) in LEAST.get(precision, {}):
                row["asked"] = f"at least {LEAST[precision][int(number)]:.0f}x ours"
        found.append(row)
    return found


def main() -> None:
    """Measure, print, write."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--model", default="minilm")
    options.add_argument("--precision", nargs="+", choices=tuple(MOST), default=list(MOST))
    options.add_argument("--experts", type=int, nargs="+", default=[2, 4, 8, 16])
    options.add_argument("--masked", type=int, nargs="*", default=[4, 8])
    options.add_argument("--rows", type=int, default=32)
    options.add_argument("--tokens", type=int, default=64)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--out", type=Path, default=Path("runs/benchmark-step.json"))
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    found = []
    for precision in given.precision:
        found += measure(load(given.model, precision, given.threads), precision, given)
    table = Table("way", clock()[1], "ratio", "peak MiB", "ratio", "with the base", "beside ours", "asked")
    table.title = (
        f"{given.model}, a step on {given.rows} x {given.tokens} tokens, {given.threads} threads, "
        f"medians of {given.repeats}"
    )
    for row in found:
        slower = f"{row['slower_than_ours']:.2f}" if "slower_than_ours" in row else ""
        table.add_row(
            f"{row['precision']}: {row['way']}",
            f"{row['seconds']:.3f}",
            f"{row['ratio']:.3f}",
            f"{row['peak_MiB']:.0f}",
            f"{row['peak_ratio']:.2f}",
            f"{row['peak_ratio_with_base']:.2f}",
            slower,
            row.get("asked", ""),
        )
    Console(width=120).print(table)
    write(given, ways=found)


if __name__ == "__main__":
    main()
