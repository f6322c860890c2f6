"""What every method sends and receives, counted from its own messages, against what the record tells."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import pytest
import torch
from toy import sites

from fedlease.algorithms.registry import build, methods
from fedlease.core.protocols import ClientId, Message
from fedlease.engines.drive import drive
from fedlease.engines.exchange import SCORE
from fedlease.engines.inprocess import InProcess

Form = Literal["float32", "bfloat16", "int8"]
MODULES = {"layer.0.query": (40, 50), "layer.0.value": (20, 50)}
TARGETS = {"a": 0.1, "b": 2.0, "c": 0.11, "d": 2.02}
ROUNDS = 4


def size(tensor: torch.Tensor, form: Form) -> int:
    """Numbers times their bytes; in int8 a scale of 4 bytes more for every 64 of an expert's, or of all."""
    count, experts = math.prod(tensor.shape), tensor.shape[0] if tensor.dim() == 3 else 1
    if tensor.dtype != torch.float32 or (form == "int8" and count // experts < 64):
        return count * tensor.itemsize
    scales = experts * math.ceil(count / experts / 64)
    return {"float32": 4 * count, "bfloat16": 2 * count, "int8": count + 4 * scales}[form]


class Counting(InProcess):
    """Counts by hand what the method hands over and what comes back to it, by (way, part)."""

    counted: dict[tuple[str, str], int]

    def each(self, task: str, down: Mapping[ClientId, Message]) -> dict[ClientId, Message]:
        answers = super().each(task, down)
        for way, messages in (("down", down), ("up", answers)):
            for message in messages.values():
                for name, tensor in message.weights.items():
                    key = "score" if task == SCORE else way, name.rpartition(".")[2]
                    self.counted[key] = self.counted.get(key, 0) + size(tensor, self.wire)
        return answers


@pytest.mark.parametrize("form", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("name", list(methods()))
def test_the_record_counts_the_tensors_of_every_message(name: str, form: Form) -> None:
    algorithm = build(name)
    engine = Counting(algorithm, sites(TARGETS), wire=form)
    state: Any = algorithm.init(MODULES, 0)
    for number in range(ROUNDS):
        engine.counted = {}
        (done,) = drive(algorithm, state, engine, done=number, rounds=number + 1)
        state, told = done.state, done.traffic.total()
        saved = told.pop("saved", {})
        sums: dict[str, int] = {}
        for (way, part), expected in engine.counted.items():
            if way == "up":
                assert told["up"].pop(part) == expected
            else:
                sums[part] = sums.get(part, 0) + expected
        assert told.pop("up") == {}
        for part, expected in sums.items():
            went = sum(told[way].get(part, 0) for way in ("down", "score"))
            assert went + saved.get(part, 0) == expected


def test_an_expert_that_nobody_trained_is_not_sent_again() -> None:
    """Four clients, two experts of two clients each; those of one expert do not answer in round 3."""

    class Silent(Counting):
        silent = frozenset[str]()

        def each(self, task: str, down: Mapping[ClientId, Message]) -> dict[ClientId, Message]:
            return super().each(task, {c: m for c, m in down.items() if c not in self.silent})

    algorithm = build("fedlease", rank=4, warmup_rounds=1, experts=2)
    engine = Silent(algorithm, sites(TARGETS))
    engine.counted = {}
    state: Any = algorithm.init(MODULES, 0)
    sent = []
    for number in range(1, 5):
        engine.silent = frozenset({"b", "d"}) if number == 3 else frozenset()
        state = algorithm.round(state, engine)
        sent.append(engine.take_traffic())
    a = 4 * 50 * 4  # rank x inputs x float32: one expert's A in one of two modules
    assert sent[1].down["a"]["A"] == sent[2].down["a"]["A"] == 2 * 2 * a
    assert sent[3].down["a"]["A"] == 2 * (a + 2 * 16)  # the trained expert, and a hash for each of both
    assert sent[3].saved["a"]["A"] == 2 * (a - 2 * 16)
    assert sent[3].down["b"]["A"] == 2 * 2 * a  # it holds what it was sent in round 2, when both were others
    assert sent[3].saved["b"] == {}


def test_what_is_frozen_is_sent_to_be_scored_once() -> None:
    """FFA-LoRA's A never changes: the method sends it once, and scoring refers to it."""
    algorithm = build("ffa_lora", rank=4)
    engine = InProcess(algorithm, sites(TARGETS))
    done = list(drive(algorithm, algorithm.init(MODULES, 0), engine, done=0, rounds=2))
    b = 4 * (40 + 20) * 4
    for one in done:
        assert one.traffic.score["a"] == {"A": 2 * 16, "B": b}
        assert one.traffic.saved["a"] == {"A": 2 * 4 * 50 * 4 - 2 * 16}
    assert done[1].traffic.down["a"] == {"B": b}
