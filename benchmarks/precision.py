"""Which number format and attention kernel train fastest here? Prints medians of interleaved steps.

    python benchmarks/precision.py [--model minilm] [--threads 2] [--repeats 5]

One AdamW step of plain LoRA (rank 8 on query and value, PEFT's own) in each combination, in turn.
"""

from __future__ import annotations

import argparse
from itertools import product
from statistics import median
from time import perf_counter
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging

from fedlease.training.models import resolve
from fedlease.training.shapes import modules_of

SHAPES = ((32, 32), (32, 64), (128, 32))


def stepper(path: str, precision: str, attention: str) -> Any:
    """A function that does one step on a batch of random tokens and returns its seconds."""
    model = AutoModelForSequenceClassification.from_pretrained(
        path,
        dtype=getattr(torch, precision),
        attn_implementation=attention,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=list(modules_of(model))))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)

    def step(rows: int, tokens: int) -> float:
        ids = torch.randint(1000, 20000, (rows, tokens))
        began = perf_counter()
        loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=torch.arange(rows) % 2).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return perf_counter() - began

    return step


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--model", default="minilm")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--repeats", type=int, default=5)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    kinds = list(product(("float32", "bfloat16"), ("sdpa", "eager")))
    steps = {kind: stepper(resolve(given.model), *kind) for kind in kinds}
    table = Table("rows x tokens", *(f"{precision} {attention}" for precision, attention in kinds))
    table.title = f"seconds a step, median of {given.repeats}, {given.threads} threads"
    for rows, tokens in SHAPES:
        times: dict[tuple[str, str], list[float]] = {kind: [] for kind in kinds}
        for repeat in range(given.repeats + 1):
            for kind, step in steps.items():
                seconds = step(rows, tokens)
                if repeat:  # the first warms up
                    times[kind].append(seconds)
        table.add_row(f"{rows} x {tokens}", *(f"{median(times[kind]):.3f}" for kind in kinds))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
