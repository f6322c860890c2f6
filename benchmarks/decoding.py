"""Writing answers: fedlease's batches beside `generate` one row at a time. Prints medians and their ratio.

    FEDLEASE_DATA=DIR python benchmarks/decoding.py [--rows 16] [--batch 32] [--repeats 3] [--json FILE]

Test rows of four FLAN tasks, greedily, both ways in turn. Every answer is compared: bfloat16 rounds a row in
a batch otherwise than alone, so some differ there; in float32 none should.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import GenerationConfig

from fedlease.core.errors import FedLeaseError
from fedlease.core.files import write_json
from fedlease.data.catalog import find
from fedlease.data.sources import load
from fedlease.data.where import VARIABLE
from fedlease.tasks.base import Encoded
from fedlease.tasks.generation import Generation
from fedlease.tasks.inference import Inference
from fedlease.training.base import Base, load_base
from fedlease.training.precision import Plan, choose

TASKS = ("sentiment140", "fix_punct", "web_nlg_en", "hellaswag")
Answers = list[list[int]]


def one_by_one(base: Base, rows: Encoded, task: Generation) -> Answers:
    """What a user would write: `generate` for each prompt."""
    network: Any = base.model
    end = int(base.tokenizer.eos_token_id)
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=task.max_new_tokens, eos_token_id=end, pad_token_id=base.pad_id
    )
    made = []
    for ids, length in zip(rows.input_ids, rows.labels, strict=True):
        prompt = torch.tensor([ids[:length]])
        output = network.generate(
            input_ids=prompt, attention_mask=torch.ones_like(prompt), generation_config=settings
        )
        new = output[0, length:].tolist()
        made.append(new[: new.index(end)] if end in new else new)
    return made


def measure(base: Base, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One task: seconds both ways, their ratio, and how many answers are the same."""
    task = Generation(max_new_tokens=options.new_tokens)
    table = load(find(name), Path(os.environ[VARIABLE]))
    rows = task.encode((table.test or ())[: options.rows], base.tokenizer, 1024)
    batched = Inference(base.tokenizer, base.pad_id, options.batch, torch.device("cpu"), lambda _: None)
    end = int(base.tokenizer.eos_token_id)
    ways: dict[str, Callable[[], Answers]] = {
        "alone": lambda: one_by_one(base, rows, task),
        "batches": lambda: task.write(base.model, rows, batched, end),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    written: dict[str, Answers] = {}
    with torch.inference_mode():
        for _ in range(options.repeats):
            for way, write in ways.items():
                began = perf_counter()
                written[way] = write()
                seconds[way].append(perf_counter() - began)
    same = sum(a == b for a, b in zip(written["alone"], written["batches"], strict=True))
    alone, batches = (median(seconds[way]) for way in ("alone", "batches"))
    tokens = sum(map(len, written["alone"]))
    return {
        "task": name,
        "rows": len(rows),
        "tokens": tokens,
        "alone_s": alone,
        "batches_s": batches,
        "ratio": alone / batches,
        "same": same,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if VARIABLE not in os.environ:
        raise FedLeaseError(f"name the folder that holds flan/ in {VARIABLE}")
    torch.set_num_threads(options.threads)
    plan: Plan = choose("cpu", options.precision, threads=options.threads)
    base = load_base(options.model, labels=(), seed=0, plan=plan)
    base.model.eval()
    found = [measure(base, name, options) for name in TASKS]
    table = Table("task", "rows", "tokens", "one row at a time", "batches", "ratio", "same answers")
    table.title = (
        f"seconds, median of {options.repeats}; {options.model} in {plan.precision}, {plan.attention}"
    )
    for row in found:
        table.add_row(
            row["task"],
            str(row["rows"]),
            str(row["tokens"]),
            f"{row['alone_s']:.2f}",
            f"{row['batches_s']:.2f}",
            f"{row['ratio']:.1f}",
            f"{row['same']} of {row['rows']}",
        )
    Console(width=110).print(table)
    total = sum(row["alone_s"] for row in found) / sum(row["batches_s"] for row in found)
    print(f"all tasks: {total:.1f} times as fast as one row at a time")
    if options.json:
        write_json(options.json, {"tasks": found, "ratio": total, "plan": asdict(plan)})


if __name__ == "__main__":
    main()
