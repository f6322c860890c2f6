"""The engine over a fake Grid: the same numbers as in one process, whatever sites do."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from grid import Node
from toy import MODULES, equal, sites
from toys import TARGETS, Toys, altered, claiming, crashed, damaged, foreign, raised, silent, twice

from fedlease.algorithms.registry import build, methods
from fedlease.core import files
from fedlease.core.errors import FedLeaseError
from fedlease.core.progress import Progress
from fedlease.core.protocols import Message
from fedlease.core.wire import from_wire, to_wire
from fedlease.engines.drive import drive
from fedlease.engines.exchange import SCORE
from fedlease.engines.flower import Terms
from fedlease.engines.inprocess import InProcess
from fedlease.engines.reports import Reports

ROUNDS = 4


def run(engine: Any, method: str, rounds: int = ROUNDS, state: Any = None, done: int = 0) -> list[Any]:
    algorithm = build(method, rank=2)
    state = algorithm.init(MODULES, 0) if state is None else state
    return list(drive(algorithm, state, engine, done=done, rounds=rounds))


def served(method: str, state: Any) -> dict[str, Any]:
    algorithm = build(method, rank=2)
    return {client: algorithm.serve(state, client).weights for client in TARGETS}


def same(method: str, one: Any, other: Any) -> bool:
    first, second = served(method, one), served(method, other)
    return all(equal(first[client], second[client]) for client in TARGETS)


def close(one: Any, other: Any) -> bool:
    """Equal metrics: the toy adds up its loss in the order of names, which the wire sorts."""
    assert one.keys() == other.keys()
    return all(one[client] == pytest.approx(other[client], rel=1e-5) for client in one)


def without(method: str, gone: str, at: int) -> list[Any]:
    """What one process gives when a client does not answer in one round."""

    class Missing(InProcess):
        def each(self, task: str, down: Any) -> Any:
            there = {
                c: m for c, m in down.items() if c != gone or m.facts.get("round") != at or task == SCORE
            }
            return super().each(task, there)

    return run(Missing(build(method, rank=2), sites(TARGETS)), method)


@pytest.mark.parametrize("method", list(methods()))
def test_every_method_gives_the_numbers_of_one_process(method: str, tmp_path: Path) -> None:
    expected = run(InProcess(build(method, rank=2), sites(TARGETS)), method)
    got = run(Toys(method, tmp_path).engine(), method)
    assert same(method, got[-1].state, expected[-1].state)
    for one, other in zip(got, expected, strict=True):
        assert close(one.metrics, other.metrics)
        assert one.traffic.total() == other.traffic.total()
        assert one.traffic.left_out == []


FAULTS: dict[str, tuple[Any, str]] = {
    "silent": (silent, "did not answer in 60 s"),
    "truncated": (damaged, "bytes that are damaged or cut off"),
    "foreign": (foreign, "sent what is no message of fedlease"),
    "raised": (raised, "failed with Flower's error 2; its own log says why"),
    "NaN": (altered(lambda w: {n: t * float("nan") for n, t in w.items()}), "sent NaN or infinity"),
    "shapes": (altered(lambda w: {n: t[:1] for n, t in w.items()}), "belongs"),
    "names": (altered(lambda w: {f"x.{n}": t for n, t in w.items()}), "no such module"),
    "norm": (altered(lambda w: {n: t * 1e6 for n, t in w.items()}), "times the median"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_who_fails_is_left_out_of_that_round_and_named(fault: str, tmp_path: Path) -> None:
    """FedSA keeps B at the client: what a site kept in a round that did not count must not be used."""
    toys = Toys("fedsa_lora", tmp_path)
    how, reason = FAULTS[fault]
    toys.sites["c"].faults[3] = how  # training in round 2: each round trains, then scores
    got = run(toys.engine(), "fedsa_lora")
    expected = without("fedsa_lora", "c", 2)
    assert same("fedsa_lora", got[-1].state, expected[-1].state)
    assert close(got[-1].metrics, expected[-1].metrics)
    (left_out,) = got[1].traffic.left_out
    assert (left_out.client, left_out.task) == ("c", "train")
    assert reason in left_out.reason
    assert "secret" not in left_out.reason
    assert all(not r.traffic.left_out for r in got if r.number != 2)


@pytest.mark.parametrize(
    ("at", "task", "facts"),
    [
        (5, "score", {"score": "nan"}),
        (5, "score", {"score": 10**400}),
        (4, "train", {"choice": "x"}),
        (4, "train", {"examples": 10**400}),
    ],
)
def test_who_tells_what_cannot_be_counted_with_ends_no_run(
    at: int, task: str, facts: dict[str, Any], tmp_path: Path
) -> None:
    toys = Toys("ifca_lora", tmp_path)
    toys.sites["d"].faults[at] = claiming(**facts)
    got = run(toys.engine(), "ifca_lora", 2)
    left_out = [(one.client, one.task) for one in got[-1].traffic.left_out]
    assert left_out == [("d", task)]


def test_a_second_answer_counts_for_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    toys = Toys("fedit", tmp_path)
    toys.sites["b"].faults = {1: twice}
    got = run(toys.engine(), "fedit")
    expected = run(InProcess(build("fedit", rank=2), sites(TARGETS)), "fedit")
    assert same("fedit", got[-1].state, expected[-1].state)
    assert "client b answered twice: its first answer counts" in caplog.text


def test_a_site_whose_process_dies_is_asked_again(tmp_path: Path) -> None:
    toys = Toys("fedsa_lora", tmp_path)
    toys.sites["b"].faults = {1: crashed}
    expected = run(InProcess(build("fedsa_lora", rank=2), sites(TARGETS)), "fedsa_lora")
    got = run(toys.engine(), "fedsa_lora")
    assert same("fedsa_lora", got[-1].state, expected[-1].state)
    toys.sites["b"].faults = {toys.sites["b"].asked + n: crashed for n in (1, 2)}
    again = run(toys.engine(2), "fedsa_lora", rounds=1)
    assert [one.reason for one in again[0].traffic.left_out] == ["failed: its process died 2 times"]


@pytest.mark.parametrize("number", [10, 99], ids=["same node", "new node"])
def test_a_site_that_is_killed_and_started_again_is_asked_again(number: int, tmp_path: Path) -> None:
    """Whether its key gives it its node back or it comes as another: its name is what counts."""
    toys = Toys("fedsa_lora", tmp_path)

    def killed(question: Any, answer: Any) -> list[Any]:
        node = toys.grid.nodes.pop(10)

        def back() -> None:
            toys.grid.nodes[number] = Node(node.handler, node.name, "2")

        toys.clock.then.append((toys.clock.now + 5, back))
        return []

    toys.sites["a"].faults = {1: killed}
    got = run(toys.engine(), "fedsa_lora")
    expected = run(InProcess(build("fedsa_lora", rank=2), sites(TARGETS)), "fedsa_lora")
    assert same("fedsa_lora", got[-1].state, expected[-1].state)
    assert not any(r.traffic.left_out for r in got)


def test_a_site_that_is_gone_is_named_in_every_round(tmp_path: Path) -> None:
    toys = Toys("fedit", tmp_path)
    engine = toys.engine()
    run(engine, "fedit", rounds=1)
    del toys.grid.nodes[13]
    got = run(engine, "fedit", rounds=2)
    said = {(one.client, one.task, one.reason) for r in got for one in r.traffic.left_out}
    assert said == {("d", "train", "cannot be reached"), ("d", SCORE, "cannot be reached")}


@pytest.mark.parametrize("stopped_after", [1, 2, 3])
@pytest.mark.parametrize("method", ["fedlease", "fedsa_lora", "feddpa", "flora", "hydralora"])
def test_a_server_that_goes_on_from_a_checkpoint_takes_the_sites_back_with_it(
    method: str, stopped_after: int, tmp_path: Path
) -> None:
    """Killed in the next round, after all sites have trained in it and kept what came of it."""
    expected = run(InProcess(build(method, rank=2), sites(TARGETS)), method)
    toys = Toys(method, tmp_path)
    engine = toys.engine()
    done = run(engine, method, rounds=stopped_after)[-1]
    checkpoint = dict(engine.kept)
    lost = build(method, rank=2).round(done.state, engine)  # never written
    assert lost.round == stopped_after + 1
    again = run(toys.engine(2, checkpoint), method, state=done.state, done=stopped_after)
    assert same(method, again[-1].state, expected[-1].state)
    assert close(again[-1].metrics, expected[-1].metrics)


def test_a_site_forgets_what_no_checkpoint_needs(tmp_path: Path) -> None:
    toys = Toys("fedsa_lora", tmp_path)
    run(toys.engine(), "fedsa_lora", rounds=6)
    for name in TARGETS:
        assert len(list((tmp_path / name).iterdir())) <= 2


def test_a_full_disk_at_a_site_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toys = Toys("fedsa_lora", tmp_path)
    engine = toys.engine()
    first = run(engine, "fedsa_lora", rounds=1)[-1]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    real = files.os.fsync

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(
        FedLeaseError, match=r"0 of 4 sites .* and 2 are needed \(exchange.quorum\): a failed"
    ):
        build("fedsa_lora", rank=2).round(first.state, engine)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")} == before
    assert not list(tmp_path.rglob("*.partial"))
    monkeypatch.setattr(files.os, "fsync", real)
    rest = run(engine, "fedsa_lora", state=first.state, done=1)
    expected = run(InProcess(build("fedsa_lora", rank=2), sites(TARGETS)), "fedsa_lora")
    assert same("fedsa_lora", rest[-1].state, expected[-1].state)


def test_memory_that_is_gone_is_said_and_never_replaced_by_nothing(tmp_path: Path) -> None:
    toys = Toys("fedsa_lora", tmp_path)
    engine = toys.engine()
    run(engine, "fedsa_lora", rounds=1)
    for path in (tmp_path / "b").iterdir():
        path.unlink()
    second = run(engine, "fedsa_lora", rounds=2)[0]
    assert {one.client for one in second.traffic.left_out} == {"b"}
    assert "failed: FedLeaseError; the site's log says more" in second.traffic.left_out[0].reason


def test_fewer_than_the_quorum_stop_the_run_by_name(tmp_path: Path) -> None:
    toys = Toys("fedlease", tmp_path, Terms(60.0, 0.5, 1.0))
    toys.sites["d"].faults = {1: silent}
    with pytest.raises(
        FedLeaseError,
        match=r"task warm_up, round 1: 3 of 4 sites .* 4 are needed \(exchange.initial_quorum\): d did not",
    ):
        run(toys.engine(), "fedlease")
    assert toys.clock.now == pytest.approx(60, abs=1.5)


def test_an_exchange_is_over_when_all_have_answered(tmp_path: Path) -> None:
    toys = Toys("fedit", tmp_path)
    run(toys.engine(), "fedit")
    assert toys.clock.now == 0.0  # nobody was waited for


def test_what_sites_report_is_shown_if_it_makes_sense(tmp_path: Path) -> None:
    toys, seen = Toys("fedit", tmp_path), []
    engine = toys.engine()
    engine.watch = seen.append
    run(engine, "fedit", rounds=1)
    assert {(s.client, s.purpose, s.rows, s.loss) for s in seen} == {
        *((name, "train", 4, 0.25) for name in TARGETS),
        *((name, "score", 4, None) for name in TARGETS),
    }
    assert (
        sum(s.seconds for s in seen) == 1.0
    )  # sites work side by side: the slowest counts, in both exchanges
    Reports(seen.append, "train", 1).tell("a", {"rows": -1, "seconds": float("nan"), "loss": "low"})
    assert (seen[-1].rows, seen[-1].seconds, seen[-1].loss) == (0, 0.0, None)


def test_of_places_that_several_clients_share_the_busiest_counts() -> None:
    seen: list[Progress] = []
    reports = Reports(seen.append, "train", 1)
    for client, place, seconds in (("a", "x", 2.0), ("b", "y", 3.0), ("c", "x", 4.0), ("d", "y", 1.0)):
        scored = {"scored_rows": 5, "scored_seconds": seconds / 4}
        reports.tell(client, {"rows": 20, "seconds": seconds, "loss": 0.5, "place": place, **scored})
    assert sum(s.seconds for s in seen) == 6.0  # x: 2 + 4, while y: 3 + 1
    assert sum(s.seconds for s in seen if s.purpose == "score") == 1.5
    assert {(s.purpose, s.rows, s.loss) for s in seen} == {("train", 15, 0.5), ("score", 5, None)}


def test_tensors_are_bit_equal_on_the_wire() -> None:
    odd = torch.tensor([float("nan"), -0.0, 1e-45, float("inf")])
    both = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    message = Message({"a.A": odd, "b.B": both[0], "c.B": both[1], "n": torch.tensor(3)}, {"x": 1, "y": "z"})
    back = from_wire(to_wire(message))
    assert back.facts == message.facts
    for name, tensor in message.weights.items():
        assert back.weights[name].numpy().tobytes() == tensor.numpy().tobytes()
        assert back.weights[name].dtype == tensor.dtype
