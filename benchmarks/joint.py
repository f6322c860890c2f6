"""Several clients' batches through the frozen base in one pass, beside one client after the other.

    python benchmarks/joint.py [--clients 2 4 8] [--batch 4 8 16 32] [--tokens 32 64] [--threads 1]

One by one is the project's own: a `TorchSite` a client, on one resident base. In one pass the batches lie
behind each other, the base sees them as one, and the adapters' products are grouped by client (`torch.bmm`);
each client keeps its own mean loss, head, clipping and AdamW. Both train a LoRA on query and value with the
same batches, every row as long as the next, so that nothing is padding: the best case for one pass. That
their gradients, and the losses of every step, are the same within a tolerance is checked before times count.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from fedlease.core.adapter import Adapter, Learn, Model, lora_init
from fedlease.core.errors import FedLeaseError
from fedlease.core.progress import Progress
from fedlease.core.weights import Weights
from fedlease.tasks import classification
from fedlease.tasks.base import Encoded
from fedlease.training.base import load_base
from fedlease.training.loop import Training
from fedlease.training.precision import choose
from fedlease.training.resident import Resident
from fedlease.training.site import TorchSite
from grouped import Joint, planned, sharing
from turns import clock, in_turn, ratio, write

RANK = 4
LABELS = (2, 3)
"""Labels of the clients' tasks, in turn: each number has a head of its own."""
ASKED, AT = 1.2, 8
"""The gain from which one pass is worth having, at which batch."""
NEAR = {"float32": 1e-4, "bfloat16": 0.1}
"""How far gradients may be apart, as a share of the larger one's norm; half that for losses."""


def clients(
    resident: Resident, count: int, batch: int, size: int, length: int, told: Any
) -> tuple[list[TorchSite], list[Model]]:
    """Sites with random rows, and an adapter for each that is not as all begin: B is not zero."""
    settings = Training(batch_size=batch, epochs=1, learning_rate=1e-3)
    sites, models = [], []
    for number in range(count):
        draw = torch.Generator().manual_seed(number)
        ids = torch.randint(1000, 20000, (size, length), generator=draw).tolist()
        labels = LABELS[number % len(LABELS)]
        rows = Encoded(tuple(ids), None, tuple(row % labels for row in range(size)))
        name = f"client-{number}"
        sites.append(TorchSite(name, resident, classification, rows, rows, labels, settings, 0, told))
        weights = lora_init(resident.base.modules, RANK, number)
        for key in weights:
            if key.endswith(".B"):
                weights[key] = 0.02 * torch.randn(weights[key].shape, generator=draw)
        models.append(Model(Adapter(RANK), weights))
    return sites, models


def own_gradients(site: TorchSite, model: Model, rows: Sequence[int]) -> Weights:
    """What one client's adapter is to learn from a batch, as its site has it."""
    network = site.resident.put(model, site.labels).train()
    site.resident.learn(model.adapter, ("A", "B"))
    batch = site.task.collate(site.train_rows, rows, site.resident.base.pad_id)
    site.task.loss(network, batch).backward()
    found = {}
    for path in site.resident.base.modules:
        layer = network.get_submodule(path)
        for part, held in (("A", layer.fedlease_A), ("B", layer.fedlease_B)):
            found[f"{path}.{part}"] = next(iter(held.values())).grad
    network.zero_grad(set_to_none=True)
    return found


def apart(one: Weights, other: Weights) -> float:
    """The largest difference of a tensor's values, as a share of its norm."""
    return max(float((one[n] - other[n]).norm() / one[n].norm()) for n in one)


def measure(
    bare: nn.Module, resident: Resident, count: int, batch: int, length: int, given: argparse.Namespace
) -> dict[str, Any]:
    """Seconds of both ways for one load, their ratio, and how far their results are apart.

    Raises:
        FedLeaseError: they are further apart than rounding explains.
    """
    told: list[Progress] = []
    sites, models = clients(resident, count, batch, max(given.rows, batch), length, told.append)
    joint = Joint(bare, sites, models)
    plan = [planned(site)[0] for site in sites]
    own = [own_gradients(*each) for each in zip(sites, models, plan, strict=True)]
    gradients = max(map(apart, own, joint.gradients(plan)))

    def one_by_one() -> None:
        told.clear()
        for site, model in zip(sites, models, strict=True):
            site.train(model, Learn())

    one_by_one()
    means: dict[str, list[float]] = {}
    for step in told:
        means.setdefault(step.client, [0.0]).append(step.loss * step.done)  # the loss told is the mean so far
    curves = [[(b - a) / batch for a, b in pairwise(sums)] for sums in means.values()]
    differences = torch.tensor(joint.train()) - torch.tensor(curves)
    losses, precision = float(differences.abs().max()), str(bare.dtype).removeprefix("torch.")
    if gradients > NEAR[precision] or losses > NEAR[precision] / 2:
        raise FedLeaseError(
            f"{count} clients, batch {batch}: gradients differ by {gradients:.1e}, losses by {losses:.1e}"
        )
    seconds = in_turn({"one by one": one_by_one, "in one pass": joint.train}, given.repeats, warm_up=0)
    steps = len(curves[0]) * count
    return {
        "precision": precision,
        "attention": bare.config._attn_implementation,
        "tokens": length,
        "batch": batch,
        "clients": count,
        "step_s": {way: median(took) / steps for way, took in seconds.items()},
        "gain": ratio(seconds, "one by one", "in one pass"),
        "gradients_apart": gradients,
        "losses_apart": losses,
    }


def main() -> None:
    """Measure, print, write."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--model", default="minilm")
    options.add_argument("--precision", nargs="+", choices=tuple(NEAR), default=list(NEAR))
    options.add_argument("--clients", type=int, nargs="+", default=[2, 4, 8])
    options.add_argument("--batch", type=int, nargs="+", default=[4, 8, 16, 32])
    options.add_argument("--tokens", type=int, nargs="+", default=[32, 64])
    options.add_argument("--rows", type=int, default=16, help="of a client; a batch where that is larger")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--out", type=Path, default=Path("runs/benchmark-joint.json"))
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    table = Table("precision", "tokens", "batch", "clients", "one by one", "in one pass", "gain")
    for column in ("asked", "gradients apart", "losses apart"):
        table.add_column(column)
    table.title = (
        f"{given.model}, {clock()[1]} of a client's step, {given.threads} threads, medians of {given.repeats}"
    )
    found = []
    for precision in given.precision:
        plan = choose("cpu", precision, threads=given.threads)
        base = load_base(given.model, labels=LABELS, seed=0, plan=plan)
        bare, resident = sharing(base.model), Resident(base)  # in this order: adapters stay on a base
        for length in given.tokens:
            for batch in given.batch:
                for count in given.clients:
                    row = measure(bare, resident, count, batch, length, given)
                    found.append(row)
                    table.add_row(
                        *(str(row[key]) for key in ("precision", "tokens", "batch", "clients")),
                        *(f"{seconds:.4f}" for seconds in row["step_s"].values()),
                        f"{row['gain']:.2f}",
                        f"{ASKED:.1f}" if batch == AT else "",
                        f"{row['gradients_apart']:.0e}",
                        f"{row['losses_apart']:.0e}",
                    )
    Console(width=120).print(table)
    write(given, cases=found)


if __name__ == "__main__":
    main()
