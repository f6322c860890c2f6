"""fedlease's training loop beside the Hugging Face Trainer with PEFT LoRA. Prints rows a second and losses.

    FEDLEASE_DATA=DIR python benchmarks/trainer.py [--task mrpc] [--batch 32] [--rows 256] [--epochs 1]

Both train a LoRA of the same rank on query and value, with the same head, which stays frozen, on the same
rows at the same constant rate; tokenising is not counted. The Trainer is as it comes: float32, SDPA, the
model's own dropout, batches at random. fedlease is as a run has it, in the number format that it chooses on
this machine and in float32: no dropout, rows of like length together. All are done in turn, each turn with
another seed; the loss is the mean over each quarter of the steps, with its deviation over the turns.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, median, pstdev
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from fedlease.core.adapter import Adapter, Learn, Model, lora_init
from fedlease.core.errors import FedLeaseError
from fedlease.core.progress import Progress
from fedlease.data.catalog import find
from fedlease.data.sources import load
from fedlease.data.where import VARIABLE
from fedlease.tasks import classification
from fedlease.tasks.base import Encoded
from fedlease.training.base import Base, load_base
from fedlease.training.loop import Training
from fedlease.training.precision import choose
from fedlease.training.resident import Resident
from fedlease.training.site import TorchSite
from turns import clock, in_turn, ratio, write

RANK, ALPHA, LABELS = 4, 16, 2
PARTS = 4
"""Into how many parts the steps are cut to tell the loss, where there are as many."""
ASKED = {"bfloat16": 5.0, "float32": 1.4}
Losses = list[float]


def encoded(base: Base, given: argparse.Namespace) -> Encoded:
    """The first rows of a GLUE task's training file."""
    table = load(find(given.task), Path(os.environ[VARIABLE]))
    return classification.encode(table.train[: given.rows], base.tokenizer, 128)


def ours(
    base: Base, rows: Encoded, given: argparse.Namespace, micro: int | None = None
) -> Callable[[int], Losses]:
    """A function that trains a client from its first adapter, and returns the loss of every step."""
    settings = Training(given.rate, given.batch, given.epochs, micro_batch_size=micro)
    resident, adapter = Resident(base), Adapter(RANK, alpha=ALPHA)

    def train(seed: int) -> Losses:
        steps: list[Progress] = []
        site = TorchSite("one", resident, classification, rows, rows, LABELS, settings, seed, steps.append)
        site.train(Model(adapter, lora_init(base.modules, RANK, seed)), Learn(("A", "B")))
        means = [0.0] + [step.loss * step.done for step in steps]  # the loss told is the mean so far
        return [(b - a) / step.rows for a, b, step in zip(means, means[1:], steps, strict=False)]

    return train


def trainers(base: Base, rows: Encoded, given: argparse.Namespace, folder: str) -> Callable[[int], Losses]:
    """The same with transformers' Trainer on a model of its own."""
    model = AutoModelForSequenceClassification.from_pretrained(base.path, num_labels=LABELS)
    head: nn.Module = getattr(model, base.head_name)
    head.load_state_dict({name: tensor.float() for name, tensor in base.heads[LABELS].state_dict().items()})
    for name, tensor in base.drawn.items():
        model.get_parameter(name).data.copy_(tensor)
    lora: Any = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["query", "value"])
    adapted: Any = get_peft_model(model, lora)
    fields = {"input_ids": rows.input_ids, "token_type_ids": rows.token_type_ids, "labels": rows.labels}
    columns = {name: column for name, column in fields.items() if column is not None}
    data = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    collator = DataCollatorWithPadding(base.tokenizer)

    def train(seed: int) -> Losses:
        torch.manual_seed(seed)
        for module in adapted.modules():
            if hasattr(module, "reset_lora_parameters"):
                module.reset_lora_parameters("default", True)
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=given.batch,
            num_train_epochs=given.epochs,
            learning_rate=given.rate,
            lr_scheduler_type="constant",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            seed=seed,
            disable_tqdm=True,
        )
        trainer: Any = Trainer(adapted, arguments, train_dataset=data, data_collator=collator)
        trainer.log = lambda logs, *_: trainer.state.log_history.append(logs)  # without printing
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    return train


def quarters(curves: list[Losses]) -> list[tuple[float, float]]:
    """Mean loss of each part of the steps, and its deviation over the turns."""
    parts, count = [], min(PARTS, *map(len, curves))
    for part in range(count):
        means = [fmean(c[part * len(c) // count : (part + 1) * len(c) // count]) for c in curves]
        parts.append((fmean(means), pstdev(means)))
    return parts


def measure(given: argparse.Namespace, folder: str) -> list[dict[str, Any]]:
    """Rows a second of each loop, its ratio to the Trainer's, and the losses."""
    plans = [choose("cpu", threads=given.threads), choose("cpu", "float32", threads=given.threads)]
    bases = [load_base(given.model, labels=(LABELS,), seed=0, plan=plan) for plan in plans]
    rows = encoded(bases[-1], given)
    loops = {"Trainer, float32, sdpa": trainers(bases[-1], rows, given, folder)}
    for plan, base in zip(plans, bases, strict=True):
        name = f"fedlease, {plan.precision}, {plan.attention}"
        loops[name] = ours(base, rows, given)
        if given.micro:
            loops[f"{name}, {given.micro} rows at once"] = ours(base, rows, given, given.micro)
    curves: dict[str, list[Losses]] = {name: [] for name in loops}

    def turn(name: str) -> Callable[[], None]:
        return lambda: curves[name].append(loops[name](len(curves[name])))

    seconds = in_turn({name: turn(name) for name in loops}, given.repeats, given.warm_up)
    reference = next(iter(loops))
    return [
        {
            "loop": name,
            "rows_per_s": len(rows) * given.epochs / median(seconds[name]),
            "ratio": ratio(seconds, reference, name),
            "asked": None if name == reference else ASKED[name.split(", ")[1]],
            "losses": quarters(curves[name]),
        }
        for name in loops
    ]


def main() -> None:
    """Measure, print, write."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--model", default="minilm")
    options.add_argument("--task", default="mrpc")
    options.add_argument("--batch", type=int, default=32)
    options.add_argument("--micro", type=int, help="also with so many rows of a batch at once")
    options.add_argument("--rows", type=int, default=256)
    options.add_argument("--epochs", type=int, default=1)
    options.add_argument("--rate", type=float, default=1e-3)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--warm-up", type=int, default=0, help="turns that are not counted")
    options.add_argument("--out", type=Path, default=Path("runs/benchmark-trainer.json"))
    given = options.parse_args()
    if VARIABLE not in os.environ:
        raise FedLeaseError(f"name the folder that holds glue/ in {VARIABLE}")
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(given, folder)
    title = f"{given.model}, {given.task}, {given.rows} rows, batch {given.batch}, {given.threads} threads"
    parts = len(found[0]["losses"])
    table = Table("loop", "rows/s", "ratio", "asked", *(f"loss, part {n + 1}" for n in range(parts)))
    table.title = f"{title}, {clock()[1]}, medians of {given.repeats}"
    for row in found:
        asked = "" if row["asked"] is None else f"{row['asked']:.1f}"
        losses = [f"{mean:.3f} ± {spread:.3f}" for mean, spread in row["losses"]]
        table.add_row(row["loop"], f"{row['rows_per_s']:.1f}", f"{row['ratio']:.2f}", asked, *losses)
    Console(width=130).print(table)
    write(given, loops=found)


if __name__ == "__main__":
    main()
