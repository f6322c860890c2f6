"""What float32, bfloat16 and int8 on the wire cost and save, on GLUE: bytes a client and round, and accuracy.

    python benchmarks/wire.py [--count 4] [--train-rows 300] [--test-rows 200] [--rounds 10] [--seeds 0 1 2]

The federation of examples/glue.toml, ``count`` clients for each of its four tasks, trained once for each
method, form and seed. Bytes are those that the records count: tensors, their scales, and hashes of what is
not sent again. Accuracy is the mean over clients after the last round; the last lines tell what blocks of 64
and of 256 values would round away of the trained adapters.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from torch.nn import functional

import fedlease

FORMS = ("float32", "bfloat16", "int8")
RANKS = {"fedlease": 4, "fedit": 8}
"""As in examples/glue.toml: the adapters of a client's main phase are of like size."""


def spec(given: argparse.Namespace, method: str, form: str, seed: int) -> dict[str, Any]:
    """The specification of one run."""
    path = Path(__file__).resolve().parents[1] / "examples/glue.toml"
    found = tomllib.loads(path.read_text(encoding="utf-8"))
    found |= {"seed": seed, "rounds": given.rounds, "score_every": given.rounds}
    found["method"] = {"name": method, "rank": RANKS[method]}
    found["model"] |= {"name": given.model, "threads": given.threads}
    found["exchange"] = {"wire": form}
    for client in found["clients"]:
        client |= {"count": given.count, "train_rows": given.train_rows, "test_rows": given.test_rows}
    return found


def measure(record: Mapping[str, Any]) -> dict[str, float]:
    """Bytes a client and round by way, and the mean accuracy at the end."""
    rounds, clients = record["rounds"], len(record["clients"])
    ways = {
        way: sum(sum(entry["bytes"].get(way, {}).values()) for entry in rounds) / clients / len(rounds)
        for way in ("up", "down", "saved")
    }
    scores = rounds[-1]["metrics"].values()
    return {**ways, "accuracy": mean(one["accuracy"] for one in scores)}


def lost(folder: Path, block: int) -> float:
    """What int8 with such blocks rounds away of the adapters in a run's folder, relative to their norm."""
    away = whole = 0.0
    for path in sorted(folder.glob("adapters/*/*.safetensors")):
        for tensor in load_file(path).values():
            flat = tensor.double().flatten()
            rows = functional.pad(flat, (0, -len(flat) % block)).view(-1, block)
            steps = rows.abs().amax(dim=1, keepdim=True).clamp(min=1e-300) / 127
            away += float((rows - (rows / steps).round() * steps).square().sum())
            whole += float(rows.square().sum())
    return (away / whole) ** 0.5


def runs(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Train; each seed has all methods and forms in turn."""
    for seed in given.seeds:
        for method in given.methods:
            for form in FORMS:
                with tempfile.TemporaryDirectory() as place:
                    run = fedlease.run(spec(given, method, form, seed), Path(place) / "run")
                    found = {"method": method, "wire": form, "seed": seed, **measure(run.record)}
                    if form == "float32":
                        found["lost"] = {block: lost(run.folder, block) for block in (64, 256)}
                print(json.dumps(found), flush=True)
                yield found


def table(found: Sequence[Mapping[str, Any]], title: str) -> Table:
    """A line for each method and form."""
    shown = Table("method", "wire", title=title)
    for column in ("up, kB", "of float32", "down, kB", "of float32", "accuracy, %", "deviation over seeds"):
        shown.add_column(column, justify="right")
    for method in dict.fromkeys(one["method"] for one in found):
        full: dict[str, float] = {}
        for form in FORMS:
            these = [one for one in found if (one["method"], one["wire"]) == (method, form)]
            sizes = {way: mean(one[way] for one in these) for way in ("up", "down")}
            full = full or sizes
            scores = [100 * one["accuracy"] for one in these]
            cells = [c for way in sizes for c in (f"{sizes[way] / 1e3:.1f}", f"{sizes[way] / full[way]:.3f}")]
            spread = f"{stdev(scores):.1f}" if len(scores) > 1 else "-"
            shown.add_row(method, form, *cells, f"{mean(scores):.1f}", spread)
    return shown


def main() -> None:
    """Measure, print, write."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--count", type=int, default=4, help="clients for each task")
    options.add_argument("--train-rows", type=int, default=300)
    options.add_argument("--test-rows", type=int, default=200)
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--methods", nargs="+", choices=RANKS, default=list(RANKS))
    options.add_argument("--model", default="minilm")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--out", type=Path, default=Path("runs/benchmark-wire.json"))
    given = options.parse_args()
    found = list(runs(given))
    clients = f"{4 * given.count} clients, {given.train_rows} rows, {given.rounds} rounds"
    Console(width=110).print(table(found, f"a client and round; {given.model}, {clients}"))
    for block in (64, 256):
        share = mean(one["lost"][block] for one in found if "lost" in one)
        print(f"blocks of {block} round {100 * share:.2f} % of the adapters' norm away")
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(given).items()}
    told = {"settings": settings, "torch": torch.__version__, "runs": found}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
