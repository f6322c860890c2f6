"""Eight bits a number: bounds for any values, feedback that loses nothing, and what is not rounded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from toy import equal, sites

from fedlease.algorithms.registry import build, methods
from fedlease.core.held import HELD, LackingError, digests, restored, spared
from fedlease.core.protocols import Message
from fedlease.core.rounding import LOST, SCALE, apart, fed, packed, unpacked
from fedlease.engines.inprocess import InProcess
from fedlease.engines.uploads import Uploads

MODULES = {"layer.0.query": (40, 50), "layer.0.value": (20, 50)}
TARGETS = {"a": 0.1, "b": 2.0, "c": 0.11, "d": 2.02}
finite = st.floats(-(2.0**100), 2.0**100, width=32)
tensors = arrays(np.float32, array_shapes(min_dims=1, max_dims=3, max_side=24), elements=finite).map(
    torch.from_numpy
)
quick = settings(deadline=None, max_examples=60)


def steps_of(values: np.ndarray, stacked: bool) -> np.ndarray:
    """The step each value is rounded to, in float64: a 127th of the largest of its 64."""
    found = np.empty(values.shape)
    for item, into in zip(
        values if stacked else values[None], found if stacked else found[None], strict=True
    ):
        flat, out = item.reshape(-1).astype(np.float64), np.empty(item.size)
        for start in range(0, item.size, 64):
            out[start : start + 64] = np.abs(flat[start : start + 64]).max() / 127
        into[...] = out.reshape(item.shape)
    return found


@quick
@given(tensors, st.booleans())
def test_a_number_is_off_by_half_a_step_or_dithered_by_one(values: torch.Tensor, dithered: bool) -> None:
    sent = packed(Message({"m.A": values}), "int8", dithered=dithered)
    got = unpacked(sent, "int8").weights["m.A"]
    if SCALE + "m.A" not in sent.weights:
        assert values.numel() // (len(values) if values.dim() == 3 else 1) < 64
        assert torch.equal(got, values)
        return
    step = steps_of(values.numpy(), values.dim() == 3)
    off = np.abs(got.numpy().astype(np.float64) - values.numpy())
    assert (off <= step * (1.0 if dithered else 0.5) * (1 + 1e-4) + 2e-38).all()
    assert sent.weights["m.A"].dtype == torch.int8
    again = packed(Message({"m.A": values.clone()}), "int8", dithered=dithered)
    assert equal(again.weights, sent.weights)  # the same content is the same bits


@quick
@given(st.lists(arrays(np.float32, (5, 30), elements=st.floats(-100, 100, width=32)), min_size=1, max_size=8))
def test_what_was_received_adds_up_to_what_was_meant(meant: list[np.ndarray]) -> None:
    """Within one rounding of the last upload, however many there were; and rounding alone drifts away."""
    lost: dict[str, torch.Tensor] = {}
    received = np.zeros((5, 30))
    for values in meant:
        sent, lost = fed(Message({"m.A": torch.from_numpy(values)}), lost, "int8")
        received += unpacked(sent, "int8").weights["m.A"].numpy()
    left = np.sum(meant, axis=0, dtype=np.float64) - received
    np.testing.assert_allclose(lost[LOST + "m.A"].numpy(), left, atol=1e-3)
    steps = sent.weights[SCALE + "m.A"].numpy().repeat(64)[:150].reshape(5, 30)
    assert (np.abs(left) <= steps / 2 + 1e-3).all()


def test_without_feedback_the_same_upload_is_off_by_the_same_again_and_again() -> None:
    """Which is why there is feedback: ten uploads of one tensor are ten times as far off as one."""
    values = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    plain, kept, lost = torch.zeros(8, 64), torch.zeros(8, 64), {}
    for _ in range(10):
        message = Message({"m.A": values})
        plain += unpacked(packed(message, "int8"), "int8").weights["m.A"]
        sent, lost = fed(message, lost, "int8")
        kept += unpacked(sent, "int8").weights["m.A"]
    assert float((plain - 10 * values).abs().max()) > 5 * float((kept - 10 * values).abs().max())


def test_dithering_is_right_on_average_and_follows_small_moves() -> None:
    """Sent each round and moved on by a tenth of a step: rounded to the nearest it would stay for ever."""
    nearest = dithered = torch.linspace(0.05, 1.0, 640)
    nearest[::64] = dithered[::64] = 1.0
    first = nearest.clone()
    move = 0.1 / 127 * (torch.arange(640) % 64 != 0)
    for _ in range(200):
        nearest = unpacked(packed(Message({"m.A": nearest}), "int8"), "int8").weights["m.A"] - move
        sent = packed(Message({"m.A": dithered}), "int8", dithered=True)
        dithered = unpacked(sent, "int8").weights["m.A"] - move
    assert float((nearest - first).abs().max()) < 2 / 127  # of 20 steps that were meant
    moved = (first - dithered)[move > 0]
    assert float(moved.mean()) * 127 == pytest.approx(20, abs=0.5)


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_cross_and_are_refused_by_name(odd: float) -> None:
    values = torch.ones(4, 50)
    values[2, 7] = odd
    sent, _ = fed(Message({"layer.0.query.A": values}), {}, "int8")
    arrived = {"a": unpacked(sent, "int8")}
    answers, refused = Uploads(MODULES).check("train", {"a": Message()}, arrived)
    assert answers == {}
    assert refused["a"].startswith("sent NaN or infinity in layer.0.query.A;")


def test_zeros_counts_and_the_small_cross_as_they_are() -> None:
    message = Message(
        {
            "m.A": torch.zeros(3, 64),
            "m.B": torch.randn(9, 7),
            "m.choice": torch.arange(100),
            "e.A": torch.ones(0),
        },
        {"examples": 7},
    )
    sent = packed(message, "int8")
    assert set(sent.weights) == {"m.A", "scale/m.A", "m.B", "m.choice", "e.A"}
    got = unpacked(sent, "int8")
    assert equal(got.weights, message.weights)
    assert list(got.weights) == list(message.weights)
    assert got.facts == message.facts


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({SCALE + "layer.0.query.A": torch.ones(3)}, "as int8 4x50, where float32 4x50 belongs"),
        (
            {"layer.0.query.A": torch.ones(4, 49, dtype=torch.int8)},
            "as float32 4x49, where float32 4x50",
        ),
        (
            {"layer.0.query.A": torch.ones(4, 50)},
            "sent scale/layer.0.query.A, and the base model has no such",
        ),
        ({SCALE + "layer.0.query.A": torch.full((4,), float("inf"))}, "sent NaN or infinity"),
    ],
    ids=["scales", "shape", "dtype", "infinite scales"],
)
def test_what_is_not_of_the_form_is_refused(change: dict[str, torch.Tensor], reason: str) -> None:
    sent = packed(Message({"layer.0.query.A": torch.ones(4, 50)}), "int8")
    arrived = unpacked(Message({**sent.weights, **change}), "int8")
    answers, refused = Uploads(MODULES, rank=4).check("train", {"a": Message()}, {"a": arrived})
    assert answers == {}
    assert reason in refused["a"]


@quick
@given(st.data())
def test_what_is_held_is_not_sent_and_comes_back_bit_for_bit(data: st.DataObject) -> None:
    """Any of a stack's items may have changed, in any form."""
    form = data.draw(st.sampled_from(["float32", "bfloat16", "int8"]))
    changed = data.draw(st.lists(st.booleans(), min_size=3, max_size=3))
    before = torch.randn(3, 4, 32, generator=torch.Generator().manual_seed(0))
    after = before + torch.tensor(changed).float().view(3, 1, 1)
    held = unpacked(packed(Message({"m.A": before, "m.B": before[0]}), form, dithered=True), form).weights
    full = packed(Message({"m.B": before[0], "m.A": after}), form, dithered=True)
    arrived = unpacked(full, form)
    sent = spared(full, digests(arrived.weights), digests(held))
    back = restored(unpacked(sent, form), held)
    assert list(back.weights) == ["m.B", "m.A"]
    assert equal(back.weights, arrived.weights)
    assert next(iter(sent.weights)) == HELD + "m.B"
    assert len(sent.weights.get("m.A", [])) == sum(changed)
    if not all(changed):
        for other in ({}, {**held, "m.A": held["m.A"] + 1}, {**held, "m.A": held["m.A"][:2]}):
            with pytest.raises(LackingError):
                restored(unpacked(sent, form), other)


@pytest.mark.parametrize("name", list(methods()))
def test_every_method_works_on_it_whatever_the_order_and_after_a_stop(name: str) -> None:
    """A run with clients named the other way round, that goes on from what it kept, is the same."""
    algorithm = build(name)
    whole = InProcess(algorithm, sites(TARGETS), wire="int8")
    first = InProcess(algorithm, dict(reversed(sites(TARGETS).items())), wire="int8")
    start = algorithm.init(MODULES, 0)
    state, other = start, start
    for number in range(4):
        state = algorithm.round(state, whole)
        if number == 2:
            first = InProcess(algorithm, sites(TARGETS), first.kept, wire="int8", holds=first.holds)
        before = whole.take_traffic().total()
        other = algorithm.round(other, first)
        assert before == first.take_traffic().total()
    exact = InProcess(algorithm, sites(TARGETS))
    meant = start
    for _ in range(4):
        meant = algorithm.round(meant, exact)
    for client in TARGETS:
        got, want = whole.deployed(state, client).weights, exact.deployed(meant, client).weights
        assert equal(got, first.deployed(other, client).weights)
        assert not any(key.startswith(LOST) for key in got)
        for key, tensor in want.items():
            if tensor.is_floating_point():
                assert float((got[key] - tensor).norm()) <= 0.1 * float(tensor.norm()) + 1e-3


def test_what_uploads_lost_is_kept_and_no_method_sees_it() -> None:
    algorithm = build("fedsa_lora", rank=4)
    engine = InProcess(algorithm, sites(TARGETS), wire="int8")
    algorithm.round(algorithm.init(MODULES, 0), engine)
    own, lost = apart(engine.kept["a"])
    assert {key.rpartition(".")[2] for key in own} == {"B"}
    assert set(lost) == {f"{LOST}{path}.A" for path in MODULES}
    assert all(tensor.any() for tensor in lost.values())
