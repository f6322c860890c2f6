"""What one LoRA in the place of a mixture keeps of each client's score, by rank. Prints Markdown.

python benchmarks/folded.py RUN [--ranks 16 8 4] [--threads 1]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean

import torch

from fedlease.use.finished import Finished, open_run
from fedlease.use.fold import expected, fold
from fedlease.use.nearest import nearest
from fedlease.use.parts import expert


def scores(finished: Finished, client: str, ranks: list[int]) -> list[float]:
    """Percent of the main metric on test rows: as trained, own expert, mean weights, nearest by rank."""
    site, model, metric = finished.site(client), finished.model(client), finished.run.metric
    near = nearest(site, model)
    forms = [model, expert(model, model.adapter.assigned), fold(expected(site, model), ranks[0]).model]
    return [100 * site.score(form)[metric] for form in [*forms, *(fold(near, rank).model for rank in ranks)]]


def main() -> None:
    """Measure and print, a line a client as it is done."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("run", type=Path)
    options.add_argument("--ranks", type=int, nargs="+", default=[16, 8, 4])
    options.add_argument("--threads", type=int, default=1)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    finished = open_run(given.run)
    first = f"kept at rank {given.ranks[0]}"
    heads = ["as trained", "own expert alone", f"mean weights, rank {given.ranks[0]}"]
    heads += [f"rank {rank}" for rank in given.ranks]
    print(f"| client | {' | '.join(heads)} | {first} |")
    print("|---" * (len(heads) + 2) + "|", flush=True)
    table = []
    for client in finished.clients:
        table.append(scores(finished, client, given.ranks))
        print(line(client, table[-1]), flush=True)
    print(line("mean", [fmean(column) for column in zip(*table, strict=True)]))


def line(name: str, found: list[float]) -> str:
    """One line of the table; what is kept is in percent of the model as trained."""
    told = " | ".join(f"{score:.1f}" for score in found)
    return f"| {name} | {told} | {100 * found[3] / found[0]:.1f} % |"


if __name__ == "__main__":
    main()
