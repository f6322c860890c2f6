"""What a client sends and receives, counted for every method and form of the wire; nothing is trained.

    python benchmarks/bytes.py [--model minilm] [--clients 16] [--groups 4] [--rounds 10] [--silent 0.3]

Each method runs at its defaults on a module of a model, with clients that pull their weights towards their
group's pattern; bytes are times the modules, which all have that shape. The first table has bytes a client
and round, all answering. The second has how much of what a client is sent it holds already, in float32: once
all answer, once each is silent in a round with the probability given, drawn anew for each. Its shares are of
the bytes that would cross if clients held nothing: of what goes down for a task and to be scored. Its last
columns are of what goes down if clients also held what they are sent to be scored, which they do not.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from fedlease.algorithms.registry import build, methods
from fedlease.core.adapter import Learn, Model, Modules
from fedlease.core.held import digests, spared
from fedlease.core.protocols import ClientId, Message
from fedlease.core.rounding import WireForm
from fedlease.core.seeds import generator
from fedlease.core.weights import Weights, nbytes, part
from fedlease.engines.drive import drive
from fedlease.engines.exchange import SCORE
from fedlease.engines.inprocess import InProcess
from fedlease.training.models import resolve
from fedlease.training.shapes import modules_of, on_meta

FORMS: tuple[WireForm, ...] = ("float32", "bfloat16", "int8")


@dataclass(frozen=True)
class Site:
    """A client whose training pulls what it learns towards the pattern of its group."""

    group: int
    num_examples: int = 1

    def train(self, model: Model, learn: Learn) -> Weights:
        trained = dict(model.weights)
        for name, tensor in trained.items():
            if part(name) in learn.parts:
                new = tensor.clone()
                own = new[model.adapter.assigned] if model.adapter.stacked(part(name)) else new
                own += 0.1 * (self._goal(own) - own)
                trained[name] = new
        return trained

    def _goal(self, like: torch.Tensor) -> torch.Tensor:
        wave = torch.arange(like.numel(), dtype=torch.float32).reshape(like.shape)
        return torch.cos(wave * (1 + self.group))

    def loss(self, model: Model) -> float:
        return float(sum((self._goal(tensor) - tensor).square().sum() for tensor in model.weights.values()))

    def score(self, model: Model) -> Mapping[str, float]:
        return {"accuracy": 1 / (1 + self.loss(model))}


class Counted(InProcess):
    """Counts what would cross if scoring left something behind, too."""

    def __init__(self, name: str, given: argparse.Namespace, silent: float) -> None:
        sites = {f"client-{n:03d}": Site(n % given.groups) for n in range(given.clients)}
        super().__init__(build(name), sites)
        self.silent, self.number, self.all = silent, 1, set(sites)
        self.both: dict[ClientId, Weights] = {}
        self.full = {"down": 0, "score": 0}
        self.went = {"down": 0, "score": 0, "after scoring": 0}

    @property
    def ids(self) -> tuple[ClientId, ...]:
        """Who answers in this round."""
        there = (c for c in super().ids if torch.rand(1, generator=self._draw(c)) >= self.silent)
        return tuple(there)

    def _draw(self, client: ClientId) -> torch.Generator:
        return generator(0, "silent", client, self.number)

    def each(self, task: str, down: Mapping[ClientId, Message]) -> dict[ClientId, Message]:
        way = "score" if task == SCORE else "down"
        for client, message in down.items():
            now, known = digests(message.weights), self.both.get(client, {})
            self.full[way] += sum(nbytes(message.weights).values())
            if way == "down":
                left = spared(message, now, known).weights
                self.went["after scoring"] += sum(nbytes(left).values())
            self.both[client] = {**known, **now}
        return super().each(task, down)


def sizes(name: str, modules: Modules, given: argparse.Namespace, form: WireForm) -> dict[str, float]:
    """Bytes a client and round, up and down, that cross in a form."""
    sites = {f"client-{n:03d}": Site(n % given.groups) for n in range(given.clients)}
    algorithm: Any = build(name)
    engine = InProcess(algorithm, sites, wire=form)
    state = algorithm.init(modules, 0)
    for _ in range(given.rounds):
        state = algorithm.round(state, engine)
    total = engine.take_traffic().total()
    return {way: sum(total[way].values()) / given.clients / given.rounds for way in ("up", "down")}


def spare(name: str, modules: Modules, given: argparse.Namespace, silent: float) -> dict[str, float]:
    """Shares of the bytes that are not sent."""
    engine = Counted(name, given, silent)
    algorithm: Any = build(name)
    state = algorithm.init(modules, 0)
    for number in range(given.rounds):
        engine.number = number + 1
        (done,) = drive(algorithm, state, engine, done=number, rounds=number + 1)
        state = done.state
        for way in ("down", "score"):
            engine.went[way] += sum(done.traffic.total()[way].values())
    whole = {**engine.full, "after scoring": engine.full["down"]}
    return {way: 1 - went / whole[way] if whole[way] else 0.0 for way, went in engine.went.items()}


def main() -> None:
    """Count, print, write."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--model", default="minilm")
    options.add_argument("--clients", type=int, default=16)
    options.add_argument("--groups", type=int, default=4)
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--silent", type=float, default=0.3)
    options.add_argument("--out", type=Path, default=Path("runs/benchmark-bytes.json"))
    given = options.parse_args()
    every = modules_of(on_meta(resolve(given.model)))
    modules = dict(list(every.items())[:1])
    if {*every.values()} != {*modules.values()}:
        raise SystemExit(f"the modules of {given.model} differ in shape: count every one of them")
    what = f"{given.model}, {given.clients} clients, {given.rounds} rounds"
    first = Table(title=f"kB a client and round, up and down; {what}")
    second = Table(title=f"% of the bytes not sent again; {what}")
    for table in (first, second):
        table.add_column("method", no_wrap=True)
    for form in FORMS:
        first.add_column(f"{form}: up", justify="right")
        first.add_column("down", justify="right")
    for who in ("all answer", f"{given.silent:.0%} silent"):
        for way in ("down", "score", "after scoring"):
            second.add_column(f"{who}: {way}", justify="right")
    found = {}
    for name in methods():
        crossed = {
            form: {way: len(every) * size for way, size in sizes(name, modules, given, form).items()}
            for form in FORMS
        }
        saved = [spare(name, modules, given, silent) for silent in (0.0, given.silent)]
        found[name] = {"bytes": crossed, "spared": saved}
        first.add_row(name, *(f"{size / 1e3:.1f}" for ways in crossed.values() for size in ways.values()))
        second.add_row(name, *(f"{100 * share:.1f}" for shares in saved for share in shares.values()))
    for table in (first, second):
        Console(width=110).print(table)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
