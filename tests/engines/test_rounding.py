"""What crosses the wire in fewer bits: rounded by hand, counted as it goes, the same in every engine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from by_hand import B, a, b, halfway, start
from toy import ToySite, equal, models, play, sites

from fedlease.algorithms.registry import build, methods
from fedlease.core.adapter import Learn, Model
from fedlease.core.protocols import Message
from fedlease.core.rounding import packed, unpacked
from fedlease.core.weights import Weights
from fedlease.engines.inprocess import InProcess

TARGETS = {"a": 0.1, "b": 2.0, "c": 0.11, "d": 2.02}


def to_bits(values: np.ndarray) -> np.ndarray:
    """The nearest numbers whose last 16 bits of float32 are 0, to even at ties."""
    bits = np.asarray(values, dtype=np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return rounded.astype(np.uint32).view(np.float32)


def test_float32_is_the_very_message() -> None:
    message = Message({"m.A": torch.randn(3, 4)}, {"round": 1})
    assert packed(message, "float32") is message
    assert unpacked(message, "float32") is message


def test_bfloat16_is_the_nearest_of_its_numbers_in_half_the_bytes() -> None:
    values = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)) * 10
    message = Message({"m.A": values, "m.count": torch.tensor([1, 2])}, {"round": 1})
    sent = packed(message, "bfloat16")
    assert sent.weights["m.A"].dtype == torch.bfloat16
    assert torch.equal(sent.weights["m.count"], torch.tensor([1, 2]))
    got = unpacked(sent, "bfloat16")
    assert got.facts == message.facts
    np.testing.assert_array_equal(got.weights["m.A"].numpy(), to_bits(values.numpy()))
    assert ((got.weights["m.A"] - values).abs() <= values.abs() / 256).all()
    assert equal(packed(got, "bfloat16").weights, sent.weights)  # rounded once, it stays as it is


def test_each_way_is_rounded_and_counted_and_what_a_client_keeps_is_not() -> None:
    """FFA-LoRA sends B alone after the first round; A is sent once."""
    algorithm = build("ffa_lora", rank=2)
    engine = InProcess(algorithm, sites({"x": 0.0, "y": 3.0}), wire="bfloat16")
    state = play(algorithm, engine, 2)
    value = start(B)
    for _ in range(2):
        came = [to_bits(halfway(to_bits(value).astype(np.float64), target)) for target in (0.0, 3.0)]
        value = np.mean(came, axis=0, dtype=np.float64)
    np.testing.assert_allclose(state.weights[B].numpy(), value, rtol=2**-7)
    traffic = engine.take_traffic()
    assert traffic.up["x"] == {"B": 2 * b // 2}
    assert traffic.down["x"] == {"A": a // 2, "B": 2 * b // 2}
    served = algorithm.serve(state, "x").weights
    got = engine.deployed(state, "x").weights[B]
    np.testing.assert_array_equal(got.numpy(), to_bits(served[B].numpy()))

    class Site(ToySite):
        def train(self, model: Model, learn: Learn) -> Weights:
            return {name: tensor + 1e-5 for name, tensor in super().train(model, learn).items()}

    keeps = build("fedsa_lora", rank=2)
    home = InProcess(keeps, {"x": Site(0.0), "y": Site(3.0)}, wire="bfloat16")
    play(keeps, home, 1)
    kept = home.kept["x"][B].numpy()
    assert (kept != to_bits(kept)).any()


@pytest.mark.parametrize("name", list(methods()))
def test_every_method_works_on_it_and_stays_near(name: str) -> None:
    algorithm = build(name)
    found = {}
    for wire in ("float32", "bfloat16"):
        engine = InProcess(algorithm, sites(TARGETS), wire=wire)  # type: ignore[arg-type]
        state = play(algorithm, engine, 3)
        total = engine.take_traffic().total()
        for kind, size in total.pop("saved", {}).items():  # FLoRA's identities
            total["down"][kind] += size
        found[wire] = (models(algorithm, state, engine), total)
    full, half = found["float32"], found["bfloat16"]
    for direction in ("up", "down"):
        assert {kind: size // 2 for kind, size in full[1][direction].items()} == half[1][direction]
    for client in TARGETS:
        for key, tensor in full[0][client].weights.items():
            torch.testing.assert_close(half[0][client].weights[key], tensor, rtol=0.05, atol=0.05)
