"""What would leave a site, said before anything does: the method is run on sites that hold nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from fedlease.core.adapter import Learn, Model, Modules
from fedlease.core.protocols import ClientId, Message, Metrics
from fedlease.core.rounding import SCALE, WireForm, packed
from fedlease.core.seeds import generator
from fedlease.core.weights import Weights, module, part
from fedlease.deploy.sent import describe
from fedlease.deploy.site_config import SiteConfig
from fedlease.engines.drive import drive
from fedlease.engines.inprocess import InProcess
from fedlease.experiments.spec import Spec
from fedlease.training.shapes import modules_of, on_meta


@dataclass(frozen=True)
class Leaving:
    """What one task sends.

    Attributes:
        task: its name.
        times: how often in the run.
        parts: (part, shape, dtype) -> in how many modules.
        facts: the names of plain numbers and words that go with it.
        bytes: of one message, tensors and facts.
    """

    task: str
    times: int
    parts: dict[tuple[str, tuple[int, ...], str], int]
    facts: tuple[str, ...]
    bytes: int


def leaving(config: SiteConfig) -> list[Leaving]:
    """Return what this site would send in a run of its specification, task by task.

    A method's number of experts is found by the data; where routers are sent, theirs may have more or fewer
    rows than said here.
    """
    spec = config.spec
    modules = modules_of(on_meta(config.places().model), spec.model.targets)
    return leaving_of(spec, modules, config.name)


def leaving_of(spec: Spec, modules: Modules, client: ClientId) -> list[Leaving]:
    """Return what a client would send on a base model of these modules."""
    algorithm = spec.algorithm()
    watched = _Watched(algorithm, {name: _Empty(name) for name in spec.ids}, client, spec.exchange.wire)
    state = algorithm.init(modules, spec.seed)
    for _ in drive(algorithm, state, watched, done=0, rounds=spec.rounds, score_every=spec.score_every):
        pass
    hello = ("client", "train_rows", "test_rows", "shared_test_rows", "labels", "rows", "model")
    found = [Leaving("hello", 1, {}, hello, 0)]
    for task, messages in watched.seen.items():
        largest = max(messages, key=lambda message: describe(message)["bytes"])
        parts: dict[tuple[str, tuple[int, ...], str], int] = {}
        for name, tensor in largest.weights.items():
            kind = f"scale of {part(name)}" if name.startswith(SCALE) else part(name)
            key = kind, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
            parts[key] = parts.get(key, 0) + 1
        facts = ("metrics",) if task == "score" else tuple(largest.facts)
        found.append(Leaving(task, len(messages), parts, facts, describe(largest)["bytes"]))
    return found


def said(config: SiteConfig) -> list[str]:
    """Return the statement as lines of text."""
    lines = [
        f"site {config.name}: this leaves it in a run of {config.table.spec}, and nothing else:",
        "  beside every answer: rows and seconds (of the work), loss (the mean in training),",
        "    scored_rows and scored_seconds (what of the work was no training)",
        "  in place of an answer: failed (the kind of an error; of training that diverged, the round and",
        "    what became NaN or infinite), or lacks (that what the server refers to is not here)",
    ]
    for one in leaving(config):
        tensors = [
            f"{count} x {kind} {dtype} {'x'.join(map(str, shape))}"
            for (kind, shape, dtype), count in sorted(one.parts.items())
        ]
        what = ", ".join([*tensors, *one.facts]) or "that it is done"
        size = f", {one.bytes:,} bytes each" if one.parts else ""
        lines.append(f"  {one.task} ({one.times} times{size}): {what}")
    lines.append("  finish (1 time): that it is done, how many rows were cut to length and, with a router,")
    lines.append("    how much each expert is used in each module; the adapter stays here")
    lines.append(f"every answer is logged first in {config.state / 'sent.jsonl'}")
    return lines


@dataclass(frozen=True)
class _Empty:
    """A site without rows: it moves weights a little, each its way."""

    client: ClientId
    num_examples: int = 1

    def train(self, model: Model, learn: Learn) -> Weights:
        moved = dict(model.weights)
        for name, tensor in model.weights.items():
            if part(name) in learn.parts:
                draw = generator(0, self.client, part(name), module(name), learn.round)
                moved[name] = tensor + 0.01 * torch.randn(tensor.shape, generator=draw)
        return moved

    def loss(self, model: Model) -> float:  # noqa: ARG002
        return 1.0

    def score(self, model: Model) -> Metrics:  # noqa: ARG002
        return {}


class _Watched(InProcess):
    """An engine that remembers what one client sends."""

    def __init__(
        self, algorithm: Any, sites: dict[ClientId, _Empty], client: ClientId, wire: WireForm
    ) -> None:
        super().__init__(algorithm, sites, wire=wire)
        self._client, self.seen = client, dict[str, list[Message]]()

    def each(self, task: str, down: Any) -> dict[ClientId, Message]:
        answers = super().each(task, down)
        if self._client in answers:
            self.seen.setdefault(task, []).append(packed(answers[self._client], self.wire))
        return answers
