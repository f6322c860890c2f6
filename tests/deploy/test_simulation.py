"""A simulation whose clients are served elsewhere, over a fake Grid: the numbers of one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict
from grid import Clock, FakeGrid, Node, mail

import fedlease
from fedlease.core.codec import load_value
from fedlease.core.errors import FedLeaseError
from fedlease.core.rounding import LOST
from fedlease.deploy import actor
from fedlease.deploy.simulation import simulated
from fedlease.experiments.engine import RunEngine, Start
from fedlease.experiments.keepings import Keepings
from fedlease.training.site import TorchSite

Change = Callable[[Message], None]


def asked(message: Message) -> list[Message]:
    return [actor.app(message, Context(1, message.metadata.dst_node_id, {}, RecordDict(), {}))]


@dataclass(frozen=True)
class Elsewhere:
    """A carrier whose nodes are functions; ``change`` does something to every question on its way."""

    change: Change = lambda message: None
    name: str = "ray"

    def check(self) -> None:
        """Nothing is needed."""

    @contextmanager
    def start(self, start: Start) -> Iterator[RunEngine]:
        def node(message: Message) -> list[Message]:
            self.change(message)
            return asked(message)

        grid = FakeGrid({number: Node(node) for number in range(7, 7 + len(start.spec.ids))})
        with simulated(start, mail(grid, Clock())) as engine:
            yield engine


class Stop:
    """An observer that interrupts a run after a round."""

    def __init__(self, after: int) -> None:
        self.after = after

    def begin(self, spec: Any, federation: Any, done: int) -> None: ...

    def end(self, seconds: float) -> None: ...

    def step(self, step: Any) -> None: ...

    def round(self, entry: dict[str, Any]) -> None:
        if entry["round"] == self.after:
            raise KeyboardInterrupt


def files(run: fedlease.Run) -> dict[str, bytes]:
    """What a run left, apart from what tells times."""
    told = ("spec.json", "record.json", "history.json")
    return {
        str(path.relative_to(run.folder)): b"" if path.name in told else path.read_bytes()
        for path in sorted(run.folder.rglob("*"))
        if path.is_file()
    }


def assert_same(run: fedlease.Run, expected: fedlease.Run) -> None:
    assert files(run) == files(expected)
    one, other = (
        {k: v for k, v in r.record.items() if k not in ("engine", "sessions")} for r in (run, expected)
    )
    for record in (one, other):
        record["rounds"] = [{k: v for k, v in e.items() if k != "seconds"} for e in record["rounds"]]
    assert one == other


@pytest.mark.parametrize(
    "method",
    [
        {"name": "fedlease", "rank": 2, "warmup_rounds": 1},
        {"name": "feddpa", "rank": 2},
        {"name": "ifca_lora"},
    ],
    ids=lambda method: method["name"],
)
def test_it_equals_the_run_in_one_process(method: Any, spec_of: Any, tmp_path: Path) -> None:
    spec = spec_of(method=method, rounds=2)
    expected = fedlease.run(spec, tmp_path / "one")
    run = fedlease.run(spec, tmp_path / "two", engine=Elsewhere())
    assert_same(run, expected)
    assert run.record["engine"] == "ray"


@pytest.mark.parametrize("method", ["feddpa", "ffa_lora"])
def test_int8_equals_int8_in_one_process(method: str, spec_of: Any, tmp_path: Path) -> None:
    """The adapters, the bytes, and in the checkpoint what rounding took and what clients hold."""
    spec = spec_of(method={"name": method, "rank": 2}, rounds=2, exchange={"wire": "int8"})
    expected = fedlease.run(spec, tmp_path / "one")
    run = fedlease.run(spec, tmp_path / "two", engine=Elsewhere())
    assert_same(run, expected)
    kept = load_value(Keepings, run.folder / "checkpoint" / "round-000002", "keeps")
    assert any(form.name.startswith(LOST) for layout in kept.layouts for form in layout)
    if method == "ffa_lora":  # A is frozen
        assert [sorted(one["bytes"].get("saved", {})) for one in run.record["rounds"]] == [["A"], ["A"]]


@pytest.mark.parametrize("wire", ["float32", "int8"])
@pytest.mark.parametrize("first", [True, False])
def test_either_engine_goes_on_with_the_others_run(
    first: bool, wire: str, spec_of: Any, tmp_path: Path
) -> None:
    """Also with what rounding took, and what clients hold, which is not on the disk of the other's."""
    spec = spec_of(method={"name": "feddpa", "rank": 2}, exchange={"wire": wire})
    expected = fedlease.run(spec, tmp_path / "one")
    there = {"engine": Elsewhere()}
    with pytest.raises(KeyboardInterrupt):
        fedlease.run(spec, tmp_path / "two", observer=Stop(2), **(there if first else {}))
    run = fedlease.resume(tmp_path / "two", **({} if first else there))
    assert files(run) == files(expected)
    assert run.metrics == expected.metrics
    assert [one["bytes"] for one in run.record["rounds"]] == [
        one["bytes"] for one in expected.record["rounds"]
    ]


def test_a_machine_that_does_not_see_the_folder_says_so(spec_of: Any, tmp_path: Path) -> None:
    def elsewhere(message: Message) -> None:
        message.content.config_records["beside"]["folder"] = str(tmp_path / "not here")

    with pytest.raises(FedLeaseError, match=r"client answers-0 failed: .* does not see the run's folder"):
        fedlease.run(spec_of(), tmp_path / "run", engine=Elsewhere(elsewhere))
    other = fedlease.run(spec_of(rounds=2, seed=5), tmp_path / "other").folder

    def mistaken(message: Message) -> None:
        message.content.config_records["beside"]["folder"] = str(other)

    with pytest.raises(FedLeaseError, match="does not see the run's folder"):
        fedlease.run(spec_of(), tmp_path / "run", engine=Elsewhere(mistaken))


def test_whoever_fails_ends_the_run_and_is_named(
    spec_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = TorchSite.train

    def failing(site: TorchSite, model: Any, learn: Any) -> Any:
        if site.client == "tone-1" and learn.round == 2:
            raise ValueError("a bug")
        return train(site, model, learn)

    with monkeypatch.context() as patch:
        patch.setattr(TorchSite, "train", failing)
        with pytest.raises(FedLeaseError, match=r"round 2: client tone-1 failed: ValueError: a bug"):
            fedlease.run(spec_of(), tmp_path / "two", engine=Elsewhere())
    assert "in failing" in (tmp_path / "two" / "elsewhere" / "ray.log").read_text()
    expected = fedlease.run(spec_of(), tmp_path / "one")
    assert_same(fedlease.resume(tmp_path / "two", engine=Elsewhere()), expected)


def test_a_memory_that_is_gone_is_no_empty_memory(spec_of: Any, tmp_path: Path) -> None:
    def lost(message: Message) -> None:
        for path in (tmp_path / "run" / "elsewhere" / "1" / "tone-0").glob("*.safetensors"):
            path.unlink()

    spec = spec_of(method={"name": "feddpa", "rank": 2})
    with pytest.raises(FedLeaseError, match=r"tone-0.* is gone"):
        fedlease.run(spec, tmp_path / "run", engine=replace(Elsewhere(), change=lost))
