"""Number format, attention kernel and rows at once as measured: what is found, and what is made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fedlease.core.errors import FedLeaseError
from fedlease.training.loop import Training
from fedlease.training.measured import FORMATS, KERNELS, SIZES, Stopwatch, measure
from fedlease.training.precision import Plan, Timings, choose
from fedlease.training.specimen import numbers, specimen

SECONDS = {"float32 sdpa": 4.0, "float32 eager": 3.0, "bfloat16 sdpa": 2.0, "bfloat16 eager": 1.0}


@pytest.mark.parametrize(
    ("native", "asked", "seconds", "expected"),
    [
        (False, {}, {}, ("bfloat16", "eager", "measured here, 4.0 times as fast as float32 sdpa")),
        (True, {}, {}, ("bfloat16", "eager", "nothing is clearly faster")),
        (False, {"precision": "float32"}, {}, ("float32", "eager", "1.3 times as fast as float32 sdpa")),
        (False, {"attention": "sdpa"}, {}, ("bfloat16", "sdpa", "2.0 times as fast as float32 sdpa")),
        (True, {"precision": "float32", "attention": "sdpa"}, {}, ("float32", "sdpa", "pinned")),
        (True, {}, {"float32 eager": 0.85}, ("bfloat16", "eager", "nothing is clearly faster")),
        (True, {}, {"float32 eager": 0.75}, ("float32", "eager", "1.3 times as fast as bfloat16 eager")),
    ],
)
def test_what_is_clearly_faster_is_taken_unless_pinned(
    native: bool, asked: Any, seconds: Any, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedlease.training.precision.cpu_multiplies_bfloat16", lambda: native)
    plan = choose("cpu", threads=1, timings=Timings({**SECONDS, **seconds}), **asked)
    assert (plan.precision, plan.attention) == expected[:2]
    assert expected[2] in plan.why
    assert plan.train_rows == 0


@pytest.mark.parametrize(
    ("train", "batch_size", "expected"),
    [
        ({16: 1.0, 32: 1.0, 64: 1.0, 128: 1.09}, 128, 0),
        ({16: 1.0, 32: 1.02, 64: 1.05, 128: 1.3}, 128, 16),
        ({16: 1.0, 32: 1.0, 64: 1.3, 128: 1.3}, 300, 32),  # of those that are as fast the largest
        ({16: 1.0, 32: 1.3, 64: 1.08, 128: 1.3}, 64, 0),
        ({16: 1.0, 32: 1.3, 64: 1.2, 128: 1.3}, 40, 16),
        ({16: 0.5, 32: 1.0}, 8, 0),
        ({}, 128, 0),
    ],
)
def test_a_batch_is_cut_where_that_is_clearly_faster(
    train: dict[int, float], batch_size: int, expected: int
) -> None:
    timings = Timings({}, "float32 eager", train)
    plan = choose("cpu", "float32", "eager", 1, timings, batch_size)
    assert plan.train_rows == expected
    assert choose("cpu", "bfloat16", "eager", 1, timings, batch_size).train_rows == 0  # not measured in that


def test_what_a_spec_says_of_pieces_comes_first() -> None:
    plan = Plan("cpu", "float32", "sdpa", 1, "", train_rows=16)
    assert Training(batch_size=64).on(plan).micro_batch_size == 16
    assert Training(batch_size=64, micro_batch_size=4).on(plan).micro_batch_size == 4
    assert Training().on(Plan("cpu", "float32", "sdpa", 1, "")) == Training()
    with pytest.raises(FedLeaseError, match=r"training\.micro_batch_size is 0: it must be above 0"):
        Training(micro_batch_size=0)


def test_every_way_is_timed_on_a_layer_of_the_model(tiny: Path) -> None:
    before, told = torch.random.get_rng_state(), list[str]()
    measured = measure(str(tiny), 1, rows=4, tokens=8, repeats=1, tell=told.append)
    assert measured.step.keys() == SECONDS.keys()
    assert tuple(measured.train) == SIZES
    assert not measured.score
    assert all(taken > 0 for part in (measured.step, measured.train) for taken in part.values())
    assert told[:2] == ["float32 sdpa", "float32 eager"]
    assert told[4:] == [f"train {size}" for size in SIZES]
    scored = measure(str(tiny), 1, rows=4, tokens=8, repeats=1, score=True).score
    assert tuple(scored) == SIZES
    assert all(taken > 0 for taken in scored.values())
    assert measured.way == choose("cpu", timings=Timings(measured.step)).way
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_layer_has_the_shapes_of_the_model(tiny: Path) -> None:
    config = json.loads((tiny / "config.json").read_text())
    base = specimen(str(tiny), "bfloat16")
    width, inner = config["hidden_size"], config["intermediate_size"]
    assert len(base.modules) == 2  # query and value of one layer
    assert all(shape == (width, width) for shape in base.modules.values())
    assert (
        numbers(base) == 4 * width**2 + 2 * width * inner + width**2
    )  # attention, the two others, the pooler
    assert base.model.get_parameter("bert.embeddings.word_embeddings.weight").dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        ("roberta", {"max_position_embeddings": 66}),
        ("distilbert", {}),
        ("gpt2", {}),
        ("qwen3", {"head_dim": 8, "num_key_value_heads": 2}),
        ("gemma3_text", {"head_dim": 8, "num_key_value_heads": 2}),
        ("modernbert", {}),
    ],
)
def test_other_architectures_have_a_layer_too(kind: str, extra: dict[str, Any], tmp_path: Path) -> None:
    from transformers import AutoConfig

    shape = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = AutoConfig.for_model(kind, **shape, **{"intermediate_size": 64, **extra})
    config.save_pretrained(tmp_path)
    targets = {"gpt2": ["c_attn"], "distilbert": ["q_lin"], "modernbert": ["Wqkv"]}.get(kind)
    measured = measure(str(tmp_path), 1, targets=targets, rows=2, tokens=4, repeats=1)
    assert len(measured.step) == len(FORMATS) * len(KERNELS)


@pytest.mark.parametrize("native", [False, True])
def test_a_format_without_hope_is_given_up(native: bool, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedlease.training.precision.cpu_multiplies_bfloat16", lambda: native)
    lasts = {"float32 sdpa": 1.0, "float32 eager": 1.5, "bfloat16 sdpa": 9.0, "bfloat16 eager": 0.9}

    def take(self: Stopwatch, name: str, work: Any) -> float:
        self.tell(name)
        return self.seconds.setdefault(name, lasts.get(name, 1.0))

    monkeypatch.setattr(Stopwatch, "take", take)
    told: list[str] = []
    timings = measure(str(tiny), 1, repeats=3, tell=told.append)
    if native:  # the usual way is timed once, come what may
        assert timings.step == lasts
        assert timings.way == "bfloat16 eager"
    else:
        assert timings.step == {way: taken for way, taken in lasts.items() if way != "bfloat16 eager"}
        assert timings.way == "float32 sdpa"
    assert told.count("bfloat16 sdpa") == 1
    assert told.count("bfloat16 eager") == native
    assert told.count("float32 eager") == 3


def test_a_model_that_cannot_be_measured_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FedLeaseError, match=r"model '.*nothing': no layer of it can be built"):
        measure(str(tmp_path / "nothing"), 1)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(FedLeaseError) as caught:
        measure(str(tmp_path), 1)
    assert "\n" not in str(caught.value)
