"""What crosses to sites and back: the bits, the bytes and what is left out are those of one process."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, Literal

import pytest
from toy import equal, sites
from toys import TARGETS, Toys, crashed, lacking, silent

from fedlease.algorithms.registry import build, methods
from fedlease.core.rounding import LOST
from fedlease.engines.drive import drive
from fedlease.engines.exchange import SCORE
from fedlease.engines.inprocess import InProcess

Form = Literal["float32", "bfloat16", "int8"]
MODULES = {"layer.0.query": (40, 50), "layer.0.value": (20, 50)}


def run(engine: Any, method: str, rounds: int = 4, state: Any = None, done: int = 0) -> list[Any]:
    algorithm = build(method, rank=2)
    state = algorithm.init(MODULES, 0) if state is None else state
    return list(drive(algorithm, state, engine, done=done, rounds=rounds))


def toys(method: str, folder: Path, form: Form = "int8") -> Toys:
    return Toys(method, folder, wire=form, modules=MODULES)


def here(method: str, form: Form = "int8") -> InProcess:
    return InProcess(build(method, rank=2), sites(TARGETS), wire=form)


def same(method: str, one: Any, other: Any) -> bool:
    algorithm = build(method, rank=2)
    first, second = ({c: algorithm.serve(s, c).weights for c in TARGETS} for s in (one, other))
    return all(equal(first[client], second[client]) for client in TARGETS)


@pytest.mark.parametrize("method", list(methods()))
def test_int8_over_sites_is_int8_in_one_process(method: str, tmp_path: Path) -> None:
    """The state, what sites keep with what rounding took, and the bytes."""
    engine, there = here(method), toys(method, tmp_path)
    expected, got = run(engine, method), run(there.engine(), method)
    assert same(method, got[-1].state, expected[-1].state)
    for one, other in zip(got, expected, strict=True):
        assert one.traffic.total() == other.traffic.total()
        assert one.traffic.left_out == []
    for name, node in there.sites.items():
        newest = max(path.stem for path in (tmp_path / name).iterdir())
        assert equal(node.memories().kept.load(newest), engine.kept[name])
    if method != "local_only":
        assert any(key.startswith(LOST) for kept in engine.kept.values() for key in kept)


@pytest.mark.parametrize("form", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("method", ["fedlease", "ffa_lora", "ifca_lora"])
def test_bytes_of_the_record_are_those_in_the_messages(method: str, form: Form, tmp_path: Path) -> None:
    """Of a safetensors file all but its header is tensors."""
    there = toys(method, tmp_path, form)
    crossed = {"down": 0, "score": 0}
    node = type(there.sites["a"])
    real = node.__call__

    def counting(self: Any, message: Any) -> Any:
        beside = message.content.config_records["beside"]
        if "task" in beside:
            data = message.content.array_records["weights"]["all"].data
            way = "score" if beside["task"] == SCORE else "down"
            crossed[way] += len(data) - 8 - struct.unpack("<Q", data[:8])[0]
            json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
        return real(self, message)

    for number, name in enumerate(TARGETS, 10):
        there.grid.nodes[number].handler = counting.__get__(there.sites[name])
    done = run(there.engine(), method)
    for way, size in crossed.items():
        assert sum(sum(one.traffic.total()[way].values()) for one in done) == size > 0
    if method == "ffa_lora":
        assert sum(sum(one.traffic.total()["saved"].values()) for one in done) > 0


@pytest.mark.parametrize("method", ["fedlease", "fedsa_lora", "ffa_lora"])
def test_a_server_that_goes_on_sends_what_it_would_have_sent(method: str, tmp_path: Path) -> None:
    """Killed in the next round, after all sites have trained in it and hold what they were sent."""
    expected, there = run(here(method), method), toys(method, tmp_path)
    engine = there.engine()
    done = run(engine, method, rounds=2)[-1]
    kept, holds = dict(engine.kept), dict(engine.holds)
    build(method, rank=2).round(done.state, engine)  # never written
    again = run(there.engine(2, kept, holds), method, state=done.state, done=2)
    assert same(method, again[-1].state, expected[-1].state)
    for one, other in zip(again, expected[2:], strict=True):
        assert one.traffic.total() == other.traffic.total()


def test_a_site_that_lost_what_it_held_is_sent_all_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    there = toys("ffa_lora", tmp_path)
    engine = there.engine()
    first = run(engine, "ffa_lora", rounds=1)[-1]
    (file,) = (tmp_path / "b-held").iterdir()
    file.write_bytes(b"not what it was")
    rest = run(engine, "ffa_lora", state=first.state, done=1)
    expected = run(here("ffa_lora"), "ffa_lora")
    assert same("ffa_lora", rest[-1].state, expected[-1].state)
    assert [one.metrics for one in rest] == [one.metrics for one in expected[1:]]
    assert all(not one.traffic.left_out for one in rest)
    assert "what client b holds is gone, so it is sent all of it" in caplog.text
    usual, more = expected[1].traffic, rest[0].traffic
    a = 2 * (2 * 50 + 4 * 2)  # both modules' A: rank x inputs in a byte each, and two scales
    assert more.score["b"]["A"] == usual.score["b"]["A"] + a
    assert more.saved["a"] == usual.saved["a"]
    assert more.saved["b"] == {}


def test_a_site_that_lacks_what_it_was_sent_in_full_is_left_out(tmp_path: Path) -> None:
    there = toys("ffa_lora", tmp_path)
    there.sites["b"].faults = dict.fromkeys((1, 2), lacking)
    (done,) = run(there.engine(), "ffa_lora", rounds=1)
    reason = "says it lacks what it was sent in full"
    assert [(one.client, one.task, one.reason) for one in done.traffic.left_out] == [("b", "train", reason)]
    assert there.sites["b"].asked == 3  # to train, again, and to score


def test_a_site_that_lost_what_it_held_is_sent_it_at_once_and_not_after_the_slowest(tmp_path: Path) -> None:
    there = toys("ffa_lora", tmp_path)
    engine = there.engine()
    first = run(engine, "ffa_lora", rounds=1)[-1]
    (file,) = (tmp_path / "b-held").iterdir()
    file.write_bytes(b"not what it was")
    there.sites["a"].faults = {there.sites["a"].asked + 1: silent}  # to its deadline
    (second,) = run(engine, "ffa_lora", rounds=2, state=first.state, done=1)
    assert [(one.client, one.task) for one in second.traffic.left_out] == [("a", "train")]


def test_what_a_silent_site_may_hold_is_sent_again(tmp_path: Path) -> None:
    """Its first answer is lost on the way: nothing that it was sent counts as being there."""
    there = toys("ffa_lora", tmp_path)
    there.sites["c"].faults = {1: silent, 3: crashed}
    done = run(there.engine(), "ffa_lora", rounds=2)
    assert [(one.client, one.task) for one in done[0].traffic.left_out] == [("c", "train")]
    assert done[0].traffic.saved["c"] == {}
    assert done[0].traffic.saved["a"] != {}
    assert set(done[1].traffic.down["c"]) == {"A", "B"}
    assert set(done[1].traffic.down["a"]) == {"B"}
    assert done[1].traffic.saved["c"] == done[1].traffic.saved["a"]
