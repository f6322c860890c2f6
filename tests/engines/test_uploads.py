"""Uploads are looked at before a method uses them."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from fedlease.core.protocols import Message
from fedlease.engines.exchange import FINISH, SCORE
from fedlease.engines.uploads import Uploads

MODULES = {"m": (3, 4), "n": (2, 4)}


def upload(scale: float = 1.0, rank: int = 2, **facts: Any) -> Message:
    """A well-formed upload of a plain adapter: every number is ``scale``."""
    weights = {}
    for name, (outputs, inputs) in MODULES.items():
        weights |= {
            f"{name}.A": torch.full((rank, inputs), scale),
            f"{name}.B": torch.full((outputs, rank), scale),
        }
    return Message(weights, facts or {"examples": 5})


def changed(name: str, tensor: Any) -> Message:
    return Message({**upload().weights, name: tensor}, {"examples": 5})


def checked(
    odd: Message, *, others: int = 3, uploads: Uploads | None = None, task: str = "train"
) -> tuple[Any, dict[str, str]]:
    up = {"odd": odd, **{f"ok-{n}": upload() for n in range(others)}}
    down = {client: Message({}, {"round": 7}) for client in up}
    return (uploads or Uploads(MODULES, 2)).check(task, down, up)


BAD = {
    "NaN": (changed("m.B", torch.full((3, 2), float("nan"))), "NaN or infinity in m.B"),
    "infinity": (changed("n.A", torch.full((2, 4), float("inf"))), "NaN or infinity in n.A"),
    "shape": (changed("m.A", torch.ones(2, 5)), "sent m.A as float32 2x5, where float32 2x4 belongs"),
    "rank": (upload(rank=3), "sent m.A as float32 3x4, where float32 2x4 belongs"),
    "one axis": (changed("m.A", torch.ones(8)), "m.A as float32 8, where"),
    "dtype": (changed("m.A", torch.ones(2, 4, dtype=torch.float64)), "m.A as float64 2x4, where"),
    "stranger": (changed("x.A", torch.ones(2, 4)), "sent x.A, and the base model has no such module"),
    "extra": (changed("m.extra", torch.ones(2)), "sent m.extra as float32 2, which others did not"),
    "kind": (
        changed("m.extra", torch.ones(2).to(torch.float8_e4m3fn)),
        "as torch.float8_e4m3fn, which",
    ),
    "lacking": (Message({"m.A": torch.ones(2, 4)}, {"examples": 5}), "did not send m.B as float32 3x2"),
    "empty": (Message({}, {"examples": 5}), "did not send m.A"),
    "no fact": (Message(upload().weights), "did not send the fact examples"),
    "examples": (upload(examples=-5), "says it has -5 examples"),
    "examples in words": (upload(examples="many"), "says it has 'many' examples"),
    "examples without end": (upload(examples=10**400), "as its examples, which is beyond 9007199254740992"),
    "fact": (upload(examples=5, loss=float("inf")), "sent inf as its loss"),
    "norm": (upload(101.0), "sent weights of norm"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_is_left_out_with_its_reason(case: str, caplog: pytest.LogCaptureFixture) -> None:
    odd, reason = BAD[case]
    with caplog.at_level(logging.WARNING, "fedlease"):
        fine, refused = checked(odd)
    assert list(fine) == ["ok-0", "ok-1", "ok-2"]
    assert list(refused) == ["odd"]
    assert reason in refused["odd"]
    assert f"task train, round 7: client odd is left out: it {refused['odd']}" in caplog.text


def test_what_can_be_used_passes_sorted_and_untouched() -> None:
    odd = upload(99.0)
    fine, refused = checked(odd)
    assert refused == {}
    assert list(fine) == ["odd", "ok-0", "ok-1", "ok-2"] == sorted(fine)
    assert fine["odd"] is odd


def test_the_norm_is_over_all_tensors_and_the_factor_is_of_the_lower_median() -> None:
    # 26 numbers of 1 or of s: norms are sqrt(26) = 5.099 and s times that; the lower median is of s = 1
    up = {"a": upload(), "b": upload(), "c": upload(30.0), "d": upload(40.0)}
    down = {client: Message() for client in up}
    _, refused = Uploads(MODULES, 2, norm_factor=35.0).check("train", down, up)
    assert refused == {"d": "sent weights of norm 204, more than 35 times the median 5.1"}
    assert Uploads(MODULES, 2, norm_factor=None).check("train", down, up)[1] == {}
    two = {client: up[client] for client in ("a", "d")}
    assert Uploads(MODULES, 2, norm_factor=2.0).check("train", down, two)[1] == {}  # who of two is odd?


def test_a_client_of_another_rank_is_held_to_what_it_was_asked_for() -> None:
    up = {"large": upload(rank=8), "small": upload(), "wrong": upload(rank=3)}
    down = {name: Message({}, {"rank": rank}) for name, rank in (("large", 8), ("small", 2), ("wrong", 2))}
    fine, refused = Uploads(MODULES, 2).check("train", down, up)
    assert list(fine) == ["large", "small"]
    assert "3x4, where float32 2x4 belongs" in refused["wrong"]


def test_metrics_may_differ_but_must_be_numbers() -> None:
    up = {"a": Message({}, {"rouge1": 0.5}), "b": Message({}, {"rouge1": 0.4, "accuracy": 1.0})}
    down = {client: Message() for client in up}
    assert Uploads().check(SCORE, down, up)[1] == {}
    _, refused = Uploads().check(SCORE, down, {"a": Message({}, {"rouge1": float("nan")})})
    assert refused == {"a": "sent nan as its rouge1"}


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        ("0.5", "sent '0.5' as its rouge1, where a number belongs"),
        ("nan", "sent 'nan' as its rouge1, where a number belongs"),
        (True, "sent True as its rouge1, where a number belongs"),
        (-(10**400), "as its rouge1, which is beyond"),
    ],
    ids=["text", "nan", "bool", "large"],
)
def test_scores_of_another_kind_are_left_out(score: Any, reason: str) -> None:
    up = {"a": Message({}, {"rouge1": 1}), "b": Message({}, {"rouge1": score})}
    fine, refused = Uploads().check(SCORE, {client: Message() for client in up}, up)
    assert (list(fine), list(refused)) == (["a"], ["b"])
    assert reason in refused["b"]
    assert len(refused["b"]) < 120  # it goes into the record, whatever was sent


@pytest.mark.parametrize("others", [1, 3])
def test_facts_are_of_one_kind_and_of_two_that_differ_numbers_are_right(others: int) -> None:
    up = {
        "a": upload(examples=5, choice="x"),
        **{f"b-{n}": upload(examples=5, choice=n) for n in range(others)},
    }
    fine, refused = Uploads(MODULES, 2).check("train", {client: Message() for client in up}, up)
    assert list(fine) == [f"b-{n}" for n in range(others)]
    assert refused == {"a": "sent the fact choice as text where others sent the fact choice as a number"}


def test_at_the_end_sites_may_tell_different_things() -> None:
    up = {"a": Message({}, {"cut_train": 1, "routing": "{}"}), "b": Message({}, {"cut_train": 0})}
    assert Uploads().check(FINISH, {client: Message() for client in up}, up)[1] == {}


def test_without_knowledge_of_the_model_most_are_right() -> None:
    fine, refused = checked(upload(rank=3), uploads=Uploads())
    assert list(refused) == ["odd"]
    assert "3x4 where others sent m.A as float32 2x4" in refused["odd"]
    assert len(fine) == 3
