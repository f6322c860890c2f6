"""A site that takes long over sending its answer, or dies over it: the server waits for no other's sake."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message
from grid import unknown
from toy import MODULES
from toys import Toys

from fedlease.algorithms.registry import build
from fedlease.algorithms.steps import to_all
from fedlease.engines.pulls import Pulls

ALL = ("a", "b", "c", "d")


@pytest.fixture
def rest() -> Iterator[threading.Event]:
    """When the rest of an answer comes; it does not while a test goes on, unless the test says so."""
    event = threading.Event()
    yield event
    event.set()


def dies(toys: Toys, number: int, rest: threading.Event, back: str = "") -> None:
    """Have a node send a part of its next answer; ``back``: since when it is there again by then."""
    node = toys.grid.nodes[number]
    answers = node.handler

    def half(question: Message) -> list[Message]:
        node.handler = answers if back else lambda message: []
        node.since = back or node.since
        assert rest.wait(60)
        return [unknown(question)]  # Flower has waited long enough

    node.handler = half


def trained(toys: Toys, engine: Any) -> list[str]:
    down = build("fedit", rank=2).init(MODULES, 0).weights
    return list(engine.each("train", to_all(ALL, down, 1)))


@pytest.mark.parametrize("question", ["who are you", "train"])
def test_an_answer_that_takes_long_to_arrive_is_waited_for_and_counts(
    question: str, tmp_path: Path, rest: threading.Event
) -> None:
    toys = Toys("fedit", tmp_path, patience=0.05)
    engine = toys.engine()
    if question == "train":
        assert engine.ids == ALL
    node, before = toys.grid.nodes[10], len(toys.grid.delivered)
    answers = node.handler

    def slow(message: Message) -> list[Message]:
        node.handler = answers
        assert rest.wait(60)
        return answers(message)

    node.handler = slow
    toys.clock.then.append((toys.clock.now + 10, rest.set))  # ten looks later
    assert sorted(trained(toys, engine)) == [*ALL]
    assert len(toys.grid.delivered) - before == (4 if question == "train" else 8)  # nobody is asked twice
    assert toys.clock.now < toys.terms.deadline


def test_one_whose_answer_cannot_be_read_is_left_out_alone(tmp_path: Path) -> None:
    toys = Toys("fedit", tmp_path)
    engine = toys.engine()
    assert engine.ids == ALL

    def broken(message: Message) -> list[Message]:
        raise json.JSONDecodeError("Expecting value", "", 0)  # out of Flower's pull_messages

    toys.grid.nodes[10].handler = broken
    assert trained(toys, engine) == ["b", "c", "d"]
    (left_out,) = engine.take_traffic().left_out
    assert (left_out.client, left_out.reason) == ("a", "sent what Flower cannot read")


def test_others_are_heard_and_the_deadline_holds(tmp_path: Path, rest: threading.Event) -> None:
    toys = Toys("fedit", tmp_path, patience=0.1)
    engine = toys.engine()
    assert engine.ids == ALL
    dies(toys, 10, rest)
    begun = toys.clock.now
    assert trained(toys, engine) == ["b", "c", "d"]
    assert toys.clock.now - begun == toys.terms.deadline


def test_it_is_asked_again_when_it_is_back(tmp_path: Path, rest: threading.Event) -> None:
    toys = Toys("fedit", tmp_path, patience=0.1)
    engine = toys.engine()
    assert engine.ids == ALL
    dies(toys, 10, rest, back="2")
    assert sorted(trained(toys, engine)) == [*ALL]
    assert not rest.is_set()  # while Flower still waits for the first answer
    assert toys.clock.now < toys.terms.deadline


def test_it_is_asked_again_who_it_is(tmp_path: Path, rest: threading.Event) -> None:
    toys = Toys("fedit", tmp_path, patience=0.1)
    dies(toys, 10, rest, back="2")
    assert toys.engine().ids == ALL
    assert not rest.is_set()
    assert toys.clock.now < 30.0  # that a node has to answer


@pytest.mark.parametrize("question", ["who are you", "train"])
def test_one_whose_answer_was_lost_is_asked_again_where_it_is(question: str, tmp_path: Path) -> None:
    toys = Toys("fedit", tmp_path)
    engine = toys.engine()
    if question == "train":
        assert engine.ids == ALL
    node = toys.grid.nodes[10]
    answers = node.handler

    def loses(message: Message) -> list[Message]:
        node.handler = answers
        return [unknown(message)]

    node.handler = loses
    assert sorted(trained(toys, engine)) == [*ALL]
    assert node.handler is answers


class Grid:
    """Raises in the first look, or waits in every one, and gives a reply of the message's number."""

    def __init__(self, rest: threading.Event | None = None) -> None:
        self.rest, self.looks = rest, 0

    def pull_messages(self, numbers: list[str]) -> list[str]:
        self.looks += 1
        if self.rest is None:
            raise ConnectionError("Flower's server is gone")
        assert self.rest.wait(60)
        return numbers


def test_what_flower_raises_is_raised() -> None:
    with pytest.raises(ConnectionError, match="Flower's server is gone"):
        Pulls(Grid(), None).take(["1"])  # type: ignore[arg-type]


def test_looks_do_not_pile_up_and_nothing_is_lost(
    rest: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedlease.engines.pulls.MOST", 3)
    grid = Grid(rest)
    pulls = Pulls(grid, 0.01)  # type: ignore[arg-type]
    assert [pulls.take([str(number)]) for number in range(5)] == [[]] * 5
    assert grid.looks == 3
    rest.set()
    pulls.patience = None
    took = pulls.take(["5"]) + pulls.take(["0", "6"])
    assert sorted((number, str(reply)) for number, reply in took) == [(n, n) for n in "0126"]
    assert (pulls.take([]), pulls.take(["0"])) == ([], [])  # what came is not looked for again
