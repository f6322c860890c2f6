"""Which sites the engine counts as there, over a fake Grid: by their keys, late, silent, or away and back."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Error, Message
from flwr.common.constant import ErrorCode
from grid import Node
from toy import MODULES
from toys import Toys

from fedlease.algorithms.registry import build
from fedlease.algorithms.steps import to_all
from fedlease.core.errors import FedLeaseError
from fedlease.deploy.hello import check_hello
from fedlease.engines.flower_records import failure


def test_a_name_is_only_the_one_its_key_was_registered_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    toys = Toys("fedit", tmp_path)
    for number, name in ((10, "a"), (11, "b"), (12, "a")):
        toys.grid.nodes[number].name = name  # c's key is a's
    toys.sites["d"].name = "stranger"
    with caplog.at_level(logging.WARNING, "fedlease"):
        assert toys.engine().ids == ("a", "b")
    assert "node 12 is turned away: it says it is 'c', and its key is registered for 'a'" in caplog.text
    assert "node 13 is turned away: it says it is 'stranger', which is no client" in caplog.text


def test_a_site_that_goes_away_over_the_first_question_is_asked_when_it_is_back(tmp_path: Path) -> None:
    toys = Toys("fedit", tmp_path)
    node = toys.grid.nodes[11]
    answers, node.handler = node.handler, lambda message: []

    def back() -> None:
        node.handler, node.since = answers, "2"

    toys.clock.then.append((7.0, back))
    assert toys.engine().ids == ("a", "b", "c", "d")
    assert toys.clock.now < 10  # of the 30 s that a node has to answer


def test_a_node_that_says_nothing_holds_nobody_up_twice(tmp_path: Path) -> None:
    toys = Toys("fedit", tmp_path)
    toys.grid.nodes[99] = Node(lambda message: [])
    engine = toys.engine()
    assert engine.ids == ("a", "b", "c", "d")
    assert toys.clock.now == 30.0
    assert engine.ids == ("a", "b", "c", "d")
    assert toys.clock.now == 30.0


def test_a_node_that_says_nothing_holds_up_no_answers(tmp_path: Path) -> None:
    toys = Toys("fedit", tmp_path)
    algorithm, engine, node = build("fedit", rank=2), toys.engine(), toys.grid.nodes[13]
    down = algorithm.init(MODULES, 0).weights
    assert engine.ids == ("a", "b", "c", "d")
    answers = node.handler

    def away(message: Message) -> list[Message]:
        node.handler, node.since = answers, "2"
        del toys.grid.nodes[13]
        return []

    node.handler = away
    toys.clock.then += [
        (2.0, lambda: toys.grid.nodes.update({99: Node(lambda message: [])})),
        (4.0, lambda: toys.grid.nodes.update({13: node})),
    ]
    assert list(engine.each("train", to_all(engine.ids, down, 1))) == ["a", "b", "c", "d"]
    assert toys.clock.now < 6  # of the 30 s that the silent one has


def test_a_node_that_said_nothing_is_asked_again(tmp_path: Path) -> None:
    toys = Toys("fedit", tmp_path)
    node, engine = toys.grid.nodes[11], toys.engine()
    answers, node.handler = node.handler, lambda message: []
    toys.clock.then.append((40.0, lambda: setattr(node, "handler", answers)))
    assert engine.ids == ("a", "c", "d")
    toys.clock.sleep(29.0)
    assert engine.ids == ("a", "c", "d")  # what it was sent is lost
    toys.clock.sleep(1.0)
    assert engine.ids == ("a", "b", "c", "d")
    assert toys.clock.now == 60.0


def test_a_node_that_failed_to_say_who_it_is_is_asked_again(tmp_path: Path) -> None:
    toys = Toys("fedit", tmp_path)
    node, engine = toys.grid.nodes[11], toys.engine()
    answers = node.handler
    node.handler = lambda message: [Message(failure("MemoryError;\n" + 400 * "x"), reply_to=message)]
    assert engine.ids == ("a", "c", "d")
    assert toys.clock.now < 5.0  # nobody waits for it
    with pytest.raises(FedLeaseError, match=r"missing: b; node 11 failed: MemoryError; x{287}$"):
        engine.roster.gather(4, 10.0)
    node.handler = answers
    toys.clock.sleep(29.0)
    assert engine.ids == ("a", "b", "c", "d")
    del toys.grid.nodes[13]
    with pytest.raises(FedLeaseError, match=r"missing: d$"):  # nothing stands against the others any more
        engine.roster.gather(4, 10.0)


def test_what_stood_against_a_node_is_gone_with_it(tmp_path: Path) -> None:
    toys = Toys("fedit", tmp_path)
    toys.sites["d"].name = "stranger"
    engine = toys.engine()
    with pytest.raises(FedLeaseError, match="missing: d; node 13 says it is 'stranger', which is no client"):
        engine.roster.gather(4, 10.0)
    del toys.grid.nodes[13]
    with pytest.raises(FedLeaseError, match=r"missing: d$"):
        engine.roster.gather(4, 10.0)


def test_who_says_nothing_of_use_of_itself_is_turned_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    toys = Toys("fedit", tmp_path)
    engine = toys.engine()
    engine.roster.check = check_hello
    with caplog.at_level(logging.WARNING, "fedlease"):
        assert engine.ids == ()
    assert "node 10 is turned away: it says nothing of use about its train_rows" in caplog.text


SAID = {
    "train_rows": 8,
    "test_rows": 0,
    "shared_test_rows": False,
    "labels": '["no", "yes"]',
    "rows": "ab12",
    "model": "minilm",
}


def test_what_a_site_says_of_itself_passes() -> None:
    check_hello(SAID)
    check_hello({**SAID, "labels": "[]", "shared_test_rows": 1})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train_rows", -1),
        ("train_rows", "many"),
        ("test_rows", None),
        ("shared_test_rows", "no"),
        ("labels", "not JSON"),
        ("labels", "[" * 100_000),
        ("labels", '{"no": 1}'),
        ("labels", "[1, 2]"),
        ("labels", json.dumps([str(n) for n in range(1001)])),
        ("labels", json.dumps(["x" * 201])),
        ("rows", ["a"]),
        ("rows", "x" * 201),
        ("model", {}),
    ],
)
def test_what_nothing_can_be_done_with_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(FedLeaseError, match=key):
        check_hello({**SAID, key: value})
    if value is not None:
        with pytest.raises(FedLeaseError, match=key):
            check_hello({name: other for name, other in SAID.items() if name != key})


def test_a_node_that_was_away_for_a_moment_is_asked_again_where_it_was(tmp_path: Path) -> None:
    toys = Toys("fedit", tmp_path)
    engine, node = toys.engine(), toys.grid.nodes[11]
    assert engine.ids == ("a", "b", "c", "d")
    answers = node.handler

    def unseen(message: Message) -> list[Message]:
        node.handler = answers
        return [Message(Error(ErrorCode.NODE_UNAVAILABLE, "away"), reply_to=message)]

    node.handler = unseen
    down = build("fedit", rank=2).init(MODULES, 0).weights
    assert list(engine.each("train", to_all(engine.ids, down, 1))) == ["a", "b", "c", "d"]
    assert toys.clock.now < 5.0


def test_the_sites_are_waited_for_before_the_first_round(tmp_path: Path) -> None:
    toys = Toys("fedit", tmp_path)
    late = {n: toys.grid.nodes.pop(n) for n in (12, 13)}
    toys.clock.then.append((20.0, lambda: toys.grid.nodes.update(late)))
    engine = toys.engine()
    engine.roster.gather(4, 60.0)
    assert engine.ids == ("a", "b", "c", "d")
    assert 20 <= toys.clock.now < 25
    del toys.grid.nodes[13]
    engine.roster.gather(3, 10.0)  # a quorum, after all the time it may take
    with pytest.raises(FedLeaseError, match=r"3 of 4 sites are there after 10 s, and 4 are needed .*: d$"):
        engine.roster.gather(4, 10.0)
