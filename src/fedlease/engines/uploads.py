"""The one place where uploads are looked at before a method uses them.

A method averages whatever it is handed. So every engine passes what came up through `Uploads.check`, and goes
on with those that passed; whoever is refused counts as not having answered. Clipping, noise and unmasking
of uploads belong here too, for nothing reaches a method another way.
"""

from __future__ import annotations

import logging
import math
import reprlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median_low
from typing import Any

import torch
from torch import Tensor

from fedlease.core.adapter import Modules
from fedlease.core.protocols import Algorithm, ClientId, Fact, Message
from fedlease.core.weights import Weights, module, part
from fedlease.engines.exchange import FINISH, SCORE

NORM_FACTOR = 100.0
"""How many times the median norm an upload may have: clients of very different numbers of rows pass."""

LARGEST = 2**53
"""No whole number among the facts is further from 0: methods may count with all of them as floats."""

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)

COUNTED = frozenset((*_FLOATS, *_WHOLE))
"""The kinds of numbers that can be counted with; safetensors has others."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Uploads:
    """What uploads must be.

    Every tensor is finite, and ``A`` [r, d], ``B`` [l, r] and ``router`` [slots, d] are float32 and fit the
    base model's modules. Numbers among the facts are finite, and scores are numbers. All answers to one task
    have the same names, shapes, dtypes, facts and kinds of facts; where they differ, most are right, and of
    two that differ the fuller one, then the one of fewer texts. No norm is far above the others'.

    Attributes:
        modules: the adapted modules, (l, d) each; None leaves shapes to the comparison of answers.
        rank: of every client's adapter, unless the message down has a fact ``rank``; None is any.
        norm_factor: an upload's norm, over all its tensors, is at most so many times the lower median of the
            answers; it is looked at from three answers on. None is no limit.
    """

    modules: Modules | None = None
    rank: int | None = None
    norm_factor: float | None = NORM_FACTOR

    @classmethod
    def of(cls, algorithm: Algorithm[Any], modules: Modules, norm_factor: float | None) -> Uploads:
        """What uploads of a method must be on a base model of these modules."""
        return cls(modules, getattr(algorithm, "rank", None), norm_factor)

    def check(
        self, task: str, down: Mapping[ClientId, Message], up: Mapping[ClientId, Message]
    ) -> tuple[dict[ClientId, Message], dict[ClientId, str]]:
        """Part what came up into what may be used, sorted by client, and why the rest may not.

        Args:
            task: what the clients were asked to do.
            down: what was sent to each of them.
            up: what came back.
        """
        refused: dict[ClientId, str] = {}
        for client in sorted(up):
            fault = _fault_of_values(task, up[client])
            fault = fault or self._fault_of_shapes(down[client], up[client].weights)
            if fault:
                refused[client] = fault
        if task not in (SCORE, FINISH):  # metrics, and who has a router, may differ from client to client
            refused |= _odd_ones({c: m for c, m in up.items() if c not in refused}, down)
        refused |= self._far_ones({c: m.weights for c, m in up.items() if c not in refused})
        for client, reason in sorted(refused.items()):
            rounds = down[client].facts.get("round", "?")
            log.warning("task %s, round %s: client %s is left out: it %s", task, rounds, client, reason)
        return {client: up[client] for client in sorted(up) if client not in refused}, refused

    def _fault_of_shapes(self, down: Message, weights: Weights) -> str:
        """Where a tensor does not fit the base model; nothing if all do."""
        rank = down.facts.get("rank", self.rank)
        for name, tensor in weights.items():
            kind, path = part(name).removeprefix("first_"), module(name)
            if self.modules is None or kind not in ("A", "B", "router"):
                continue
            if path not in self.modules:
                return f"sent {name}, and the base model has no such module to adapt"
            outputs, inputs = self.modules[path]
            wanted = {"A": (rank, inputs), "B": (outputs, rank), "router": (None, inputs)}[kind]
            if not _fits(tensor, wanted):
                shape = "x".join("any" if n is None else str(n) for n in wanted)
                return f"sent {_told(name, tensor)}, where float32 {shape} belongs"
        return ""

    def _far_ones(self, up: Mapping[ClientId, Weights]) -> dict[ClientId, str]:
        norms = {client: _norm(weights) for client, weights in up.items() if weights}
        if self.norm_factor is None or len(norms) < 3:
            return {}
        middle = median_low(norms.values())
        limit = f"more than {self.norm_factor:g} times the median {middle:.3g}"
        return {
            client: f"sent weights of norm {norm:.3g}, {limit}"
            for client, norm in norms.items()
            if middle > 0 and norm > self.norm_factor * middle
        }


def _fault_of_values(task: str, up: Message) -> str:
    """What a method could not count with; nothing if all is well."""
    for name, tensor in up.weights.items():
        if tensor.dtype not in COUNTED:
            return f"sent {reprlib.repr(name)} as {tensor.dtype}, which no method counts with"
        if not torch.isfinite(tensor).all():
            return f"sent NaN or infinity in {name}; lower training.learning_rate or look at its rows"
    facts: Mapping[str, object] = up.facts  # what a site says they are is not what they need be
    for key, value in facts.items():
        if not isinstance(value, bool | int | float | str):
            return f"sent the fact {key} as {type(value).__name__}, which is no plain value"
        if task == SCORE and isinstance(value, bool | str):
            return f"sent {reprlib.repr(value)} as its {key}, where a number belongs"
        if isinstance(value, float) and not math.isfinite(value):
            return f"sent {value} as its {key}"
        if isinstance(value, int) and abs(value) > LARGEST:
            return f"sent {reprlib.repr(value)} as its {key}, which is beyond {LARGEST}"
    examples = facts.get("examples", 1)
    if not isinstance(examples, int) or isinstance(examples, bool) or examples < 1:
        return f"says it has {reprlib.repr(examples)} examples, where a number above 0 belongs"
    return ""


_Layout = frozenset[tuple[str, str]]
"""What an upload consists of: tensors with shape and dtype, facts with their kind."""


def _odd_ones(up: Mapping[ClientId, Message], down: Mapping[ClientId, Message]) -> dict[ClientId, str]:
    """Who sent something else than most of those who were asked for the same rank."""
    same: dict[_Layout, _Layout] = {}  # many clients have one: it is held once
    layouts = {}
    for client, message in sorted(up.items()):
        layout = _layout(message)
        layouts[client] = same.setdefault(layout, layout)
    groups: dict[Fact | None, list[ClientId]] = {}
    for client in layouts:
        groups.setdefault(down[client].facts.get("rank"), []).append(client)
    odd: dict[ClientId, str] = {}
    for members in groups.values():
        counts = Counter(layouts[client] for client in members)
        usual = max(counts, key=lambda layout: (counts[layout], len(layout), -_texts(layout), sorted(layout)))
        odd |= {c: _difference(layouts[c], usual) for c in members if layouts[c] != usual}
    return odd


def _layout(message: Message) -> _Layout:
    tensors = {(name, _told(name, tensor)) for name, tensor in message.weights.items()}
    return frozenset(tensors | {(key, _kind(key, value)) for key, value in message.facts.items()})


def _kind(key: str, value: Fact) -> str:
    return f"the fact {key} as {'text' if isinstance(value, str) else 'a number'}"


def _texts(layout: _Layout) -> int:
    """How many facts are text: a method that expects text can read a number, but not the other way round."""
    return sum(kind == _kind(key, "") for key, kind in layout)


def _difference(found: _Layout, usual: _Layout) -> str:
    """The first difference, in words."""
    lacks, has = dict(sorted(usual - found)), dict(sorted(found - usual))
    if lacks:
        name, wanted = next(iter(lacks.items()))
        return f"sent {has[name]} where others sent {wanted}" if name in has else f"did not send {wanted}"
    return f"sent {next(iter(has.values()))}, which others did not"


def _told(name: str, tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape)) or "one number"
    return f"{name} as {str(tensor.dtype).removeprefix('torch.')} {shape}"


def _fits(tensor: Tensor, wanted: tuple[object, object]) -> bool:
    pairs = zip(tensor.shape, wanted, strict=False)
    alike = all(there == asked or asked is None for there, asked in pairs)
    return tensor.dtype == torch.float32 and tensor.dim() == 2 and alike


def _norm(weights: Weights) -> float:
    return math.sqrt(sum(float(t.to(torch.float64).square().sum()) for _, t in sorted(weights.items())))
