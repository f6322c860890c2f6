"""What an exchange over Flower costs beside the computing: a server and sites on this machine.

    python benchmarks/flower_overhead.py --sites 2 --rounds 4 [--tls] [--json overhead.json]
    python benchmarks/flower_overhead.py --engine ray --sites 4 --rounds 6

Flower's fixed waits are in it: a site looks for messages every 3 s, and every 0.5 s for the answer of the
process it starts for each message, which imports Flower first. The server's side looks every 0.5 s. With
``--engine ray`` the sites are clients of a simulation, served by actors of a Ray.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import median

import fedlease
from fedlease.deploy.on_ray import OnRay
from fedlease.deploy.trial import deploy
from fedlease.experiments.spec import make_spec
from fedlease.experiments.surroundings import surroundings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--engine", choices=("sites", "ray"), default="sites")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    client = {"name": "tone", "count": asked.sites, "data": "tone", "train_rows": 8, "test_rows": 8}
    spec = make_spec(
        {
            "name": "overhead",
            "rounds": asked.rounds,
            "model": {"name": asked.model, "threads": 1, "max_length": 32},
            "method": {"name": "fedit", "rank": 8},
            "training": {"batch_size": 8, "epochs": 1},
            "clients": [client],
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "trial"
        if asked.engine == "ray":
            run = fedlease.run(spec, trial, engine=OnRay())
        else:
            run = deploy(spec, Path.cwd(), trial, tls=asked.tls, said=print)
        rounds = run.record["rounds"]
    over = [
        r["seconds"]["other"] / 2 for r in rounds
    ]  # sites compute side by side: the slowest's time counts
    sent = [sum(r["bytes"]["up"].values()) + sum(r["bytes"]["down"].values()) for r in rounds]
    kind = "clients on Ray" if asked.engine == "ray" else f"sites, {'TLS' if asked.tls else 'no TLS'}"
    print(f"{asked.sites} {kind}, {sent[0] / 1e6:.2f} MB in training a round")
    print(f"first round, with the model to load: {over[0]:.1f} s an exchange")
    print(f"after it: {median(over[1:]):.1f} s an exchange (two a round: training and scoring)")
    if asked.json:
        told = {
            "engine": asked.engine,
            "sites": asked.sites,
            "tls": asked.tls,
            "seconds": over,
            "bytes": sent,
            **surroundings(),
        }
        asked.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
