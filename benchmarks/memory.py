"""What training a client takes in memory, by precision, quantisation and checkpointing of its base.

    python benchmarks/memory.py [--model smollm2] [--rows 8] [--tokens 256] [--answer 64] [--steps 5]

Each kind of base has a process of its own, which loads it, puts a mixture of experts on it, and scores,
trains, and scores as a client does: one batch of rows without padding, a full one in every step. Peaks are
of the whole process, Python and its libraries included, as the kernel counts them (VmHWM, so on Linux
alone). Losses are those of the rows that are trained on, before and after.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

BASES = ("float32", "bfloat16", "bnb-8bit", "bnb-4bit", "torchao-int8")
KINDS = tuple(f"{base}{way}" for way, base in product(("", "+checkpointing"), BASES))


@dataclass(frozen=True)
class Load:
    """What is trained: ``rows`` of ``tokens``, the last ``answer`` of them to be written; how often."""

    model: str = "smollm2"
    rows: int = 8
    tokens: int = 256
    answer: int = 64
    experts: int = 4
    rank: int = 4
    steps: int = 5
    threads: int = 2


def measure(kind: str, load: Load) -> dict[str, Any]:
    """Train in this process and tell of it; sizes in MiB. Quantised bases compute in bfloat16."""
    import torch

    from fedlease.core.adapter import Learn, Model
    from fedlease.core.progress import Progress
    from fedlease.tasks.generation import Generation
    from fedlease.training.base import load_base
    from fedlease.training.loop import Training
    from fedlease.training.precision import choose
    from fedlease.training.quantization import stored
    from fedlease.training.resident import Resident
    from fedlease.training.site import TorchSite

    base, _, way = kind.partition("+")
    plain = base in ("float32", "bfloat16")
    plan = choose("cpu", base if plain else "bfloat16", threads=load.threads)  # type: ignore[arg-type]
    torch.set_num_threads(plan.threads)
    loaded = load_base(
        load.model,
        labels=(),
        seed=0,
        plan=plan,
        quantization="none" if plain else base,  # type: ignore[arg-type]
        gradient_checkpointing=bool(way),
    )
    weights = sum(tensor.numel() * tensor.element_size() for _, tensor in stored(loaded.model))
    now, loading = memory("VmRSS"), memory("VmHWM")
    steps: list[Progress] = []
    model, rows = mixture(loaded.modules, load), texts(loaded.tokenizer, load)
    settings = Training(
        learning_rate=5e-3, batch_size=load.rows, epochs=load.steps, score_batch_size=load.rows
    )
    site = TorchSite("one", Resident(loaded), Generation(), rows, rows, 0, settings, 0, steps.append)
    before = site.loss(model)
    trained = site.train(model, Learn())
    after = site.loss(Model(model.adapter, trained))
    seconds = [step.seconds for step in steps if step.purpose == "train"]
    return {
        "kind": kind,
        "plan": f"{plan.precision}, {plan.attention} attention",
        "weights": weights / 2**20,
        "loading": loading,
        "loaded": now,
        "peak": memory("VmHWM"),
        "seconds": median(seconds[1:] or seconds),
        "losses": [before, after],
    }


def mixture(modules: Any, load: Load) -> Any:
    """The adapter of a client of FedLEASE as its main phase begins."""
    import torch

    from fedlease.core.adapter import Adapter, Model, lora_init, router_init

    adapter = Adapter(rank=load.rank, experts=load.experts)
    each = [lora_init(modules, load.rank, 0, expert) for expert in range(load.experts)]
    weights = {name: torch.stack([one[name] for one in each]) for name in each[0]}
    inputs = {path: shape[1] for path, shape in modules.items()}
    return Model(adapter, weights | router_init(inputs, adapter.slots, 0.02, 0))


def texts(tokenizer: Any, load: Load) -> Any:
    """Made-up messages, cut to rows of exactly so many tokens."""
    from fedlease.data.generated import generate
    from fedlease.tasks.base import Encoded

    text = "\n".join(" ".join(row.texts) for row in generate("answers", 40 * load.rows, 0))
    ids = tokenizer(text)["input_ids"]
    while len(ids) < load.rows * load.tokens:
        ids = ids + ids
    rows = tuple(ids[n * load.tokens : (n + 1) * load.tokens] for n in range(load.rows))
    prompts = (load.tokens - load.answer,) * load.rows
    return Encoded(rows, None, prompts, answers=("",) * load.rows, options=((),) * load.rows)


def memory(which: str) -> float:
    """MiB that the kernel holds this process to have (VmRSS), or to have had at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{which}:")) / 1024


def in_a_process_of_its_own(kind: str, load: Load) -> dict[str, Any]:
    """Measure without what this process has in memory already."""
    given = [f"--{key}={value}" for key, value in vars(load).items()]
    command = [sys.executable, __file__, "--only", kind, *given]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{kind}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def main() -> None:
    """Measure, print, write."""
    from rich.console import Console
    from rich.table import Table

    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for key, value in vars(Load()).items():
        options.add_argument(f"--{key}", type=type(value), default=value)
    options.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    options.add_argument("--only", choices=KINDS, help="measure in this process and print JSON")
    options.add_argument("--out", type=Path, default=Path("runs/benchmark-memory.json"))
    given = vars(options.parse_args())
    kinds, only, out = (given.pop(key) for key in ("kinds", "only", "out"))
    load = Load(**given)
    if only:
        print(json.dumps(measure(only, load)))
        return
    table = Table(
        title=f"MiB; {load.model}, {load.rows} rows of {load.tokens} tokens, {load.answer} to write"
    )
    for column in ("base", "weights", "loaded", "peak", "s a step", "loss before", "after"):
        table.add_column(column, justify="left" if column == "base" else "right")
    found = []
    for kind in kinds:
        one = in_a_process_of_its_own(kind, load)
        found.append(one)
        sizes = [f"{one[key]:.0f}" for key in ("weights", "loaded", "peak")]
        table.add_row(kind, *sizes, f"{one['seconds']:.1f}", *(f"{loss:.2f}" for loss in one["losses"]))
    Console(width=110).print(table)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"load": vars(load), "kinds": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
