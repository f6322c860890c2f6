"""What every method trains, sends and keeps, measured: ``python docs/tools/method_facts.py`` writes it.

Each method runs on a module of RoBERTa-large's shape, with clients that pull their weights towards one of
four patterns instead of training on rows; bytes are times the modules, which all have that shape. Between
``<!-- facts -->`` and ``<!-- end -->`` of docs/methods/NAME.md goes what crossed the wire, what the clients
kept, and what `fedlease params` counts; the words around stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from fedlease.algorithms.registry import Method, build, methods
from fedlease.core.adapter import Learn, Model, Modules
from fedlease.core.files import write_bytes
from fedlease.core.protocols import ClientId, Message
from fedlease.core.weights import Weights, nbytes, part
from fedlease.engines.inprocess import InProcess
from fedlease.experiments.params import parameters
from fedlease.report.summary import human
from fedlease.training.shapes import modules_of, on_meta

MODEL, EXPERTS, CLIENTS, ROUNDS = "roberta-large", 4, 16, 5
PAGES = Path(__file__).resolve().parents[1] / "methods"
NAMES = {
    "A": "A",
    "B": "B",
    "router": "router",
    "local_A": "local A",
    "local_B": "local B",
    "fixed_A": "folded A",
    "fixed_B": "folded B",
    "choice": "choice",
}
"""What pages call the parts of an adapter, in the order they stand there."""


@dataclass
class PatternSite:
    """A client whose training pulls what it learns towards the pattern of its group."""

    group: int
    num_examples: int = 1
    learned: list[str] = field(default_factory=list)

    def train(self, model: Model, learn: Learn) -> Weights:
        trained = dict(model.weights)
        there = {part(name) for name in trained}
        own_adapter = "local " if learn.purpose == "local" else ""
        self.learned.append(own_adapter + ", ".join(kind for kind in learn.parts if kind in there))
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


@dataclass(frozen=True)
class Exchange:
    """One task of a round as a reader sees it; rounds that look alike share a line."""

    task: str
    who: str
    trains: str
    down: str
    up: str
    keeps: str


class Watched(InProcess):
    """Clients of which every exchange is noted down: that of the first who did it stands for all."""

    def __init__(self, name: str, modules: int) -> None:
        sites = {f"client-{number:02d}": PatternSite(number % EXPERTS) for number in range(CLIENTS)}
        super().__init__(build(name), sites)
        self.watched, self.exchanges, self.modules = sites, list[Exchange](), modules

    def each(self, task: str, down: Mapping[ClientId, Message]) -> dict[ClientId, Message]:
        first = min(down)
        self.watched[first].learned.clear()
        answers = super().each(task, down)
        trains = "; then ".join(self.watched[first].learned)
        who = "all" if len(down) == CLIENTS else f"{len(down)} of {CLIENTS}"
        came, went = (self._sizes(message.weights) for message in (down[first], answers[first]))
        kept = ", ".join(kinds(self.kept.get(first, {}))) or "nothing"
        self.exchanges.append(Exchange(task, who, trains, came, went, kept))
        return answers

    def _sizes(self, weights: Weights) -> str:
        """``A, B (3.15 MB)``, or ``nothing``."""
        if not weights:
            return "nothing"
        return f"{', '.join(kinds(weights))} ({human(self.modules * sum(nbytes(weights).values()))})"


def kinds(weights: Weights) -> list[str]:
    """The parts of an adapter, with a number in front where several are stacked."""
    found = {}
    for name, tensor in weights.items():
        kind = part(name)
        several = f"{len(tensor)} × " if tensor.dim() == 3 else ""
        found[kind] = several + NAMES[kind]
    return [found[kind] for kind in NAMES if kind in found]


def exchanges(name: str, modules: Modules) -> list[tuple[str, Exchange]]:
    """What is exchanged in the first rounds: (``rounds 3 to 5``, what), alike rounds once."""
    one = dict(list(modules.items())[:1])
    if {*modules.values()} != {*one.values()}:
        raise ValueError(f"the modules of {MODEL} differ in shape: count every one of them")
    engine, told = Watched(name, len(modules)), []
    algorithm = build(name)
    state: Any = algorithm.init(one, 0)
    for number in range(1, ROUNDS + 1):
        state = algorithm.round(state, engine)
        told.append((number, tuple(engine.exchanges)))
        engine.exchanges.clear()
    lines = []
    for same, group in groupby(told, key=lambda entry: entry[1]):
        numbers = [number for number, _ in group]
        when = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
        lines += [(when, exchange) for exchange in same]
    return lines


def facts(method: Method, modules: Modules) -> Iterator[str]:
    """The generated part of a method's page, line by line."""
    rank = method.options()["rank"]
    found = parameters(MODEL, method.name, rank, EXPERTS)
    parts = ", ".join(f"{kind} {number:,}" for kind, number in found.by_part.items() if number)
    yield (
        f"On RoBERTa-large, query and value of 24 layers, rank {rank}, {CLIENTS} clients in {EXPERTS} "
        "groups, float32:"
    )
    yield ""
    yield "| round | task | clients | trains | down to a client | up from a client | keeps |"
    yield "|---|---|---|---|---|---|---|"
    for when, one in exchanges(method.name, modules):
        yield f"| {when} | `{one.task}` | {one.who} | {one.trains} | {one.down} | {one.up} | {one.keeps} |"
    yield ""
    yield (
        f"In the main phase a client trains {found.trainable:,} parameters ({parts}): "
        f"{found.percent:.4f} % of the model."
    )
    yield ""
    yield "| setting | default |"
    yield "|---|---|"
    for key, value in method.options().items():
        yield f"| `{key}` | `{value!r}` |"


def page_with_facts(page: str, method: Method, modules: Modules) -> str:
    """The page with its generated part made anew."""
    content = "\n".join(facts(method, modules))
    made, count = re.subn(
        r"<!-- facts -->.*?<!-- end -->",
        lambda _: f"<!-- facts -->\n\n{content}\n\n<!-- end -->",
        page,
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError(f"docs/methods/{method.name}.md needs one <!-- facts --> with an <!-- end -->")
    return made


def main() -> None:
    """Write the generated part of every page."""
    modules = modules_of(on_meta(MODEL))
    for method in methods().values():
        path = PAGES / f"{method.name}.md"
        write_bytes(path, page_with_facts(path.read_text(encoding="utf-8"), method, modules).encode())


if __name__ == "__main__":
    main()
