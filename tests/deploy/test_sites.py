"""Whole runs over a fake Grid with the real apps: a tiny model, rows, the site's disk, the run's folder."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from fake_sites import Sites, state, toml
from flwr.app import Message
from grid import mail
from rich.console import Console
from runs import Make, files

import fedlease
from fedlease.core.errors import FedLeaseError
from fedlease.deploy.server import serve
from fedlease.experiments.spec import read_spec
from fedlease.report.summary import run_report
from fedlease.training.precision import Timings
from fedlease.training.timings import remember

pytestmark = pytest.mark.usefixtures("workers_here")


@pytest.mark.parametrize(
    ("method", "wire"),
    [("fedlease", "float32"), ("fedsa_lora", "float32"), ("fedlease", "bfloat16"), ("fedlease", "int8")],
)
def test_a_run_over_sites_equals_the_run_in_one_process(
    method: str, wire: str, spec_of: Make, tmp_path: Path
) -> None:
    alone = {"warmup_rounds": 1} if method == "fedlease" else {}
    spec = spec_of(method={"name": method, "rank": 2, **alone}, exchange={"wire": wire})
    sites = Sites(tmp_path / "sites", spec)
    expected = fedlease.run(sites.folder / "spec.toml", tmp_path / "one")
    got = sites.serve(tmp_path / "run")
    assert state(got) == state(expected)
    mine = {name: data for name, data in files(expected.folder).items() if name.startswith("adapters")}
    assert sites.adapters() == mine
    assert got.metrics == expected.metrics
    for key in ("bytes", "metrics", "loss", "rows"):
        assert [entry[key] for entry in got.record["rounds"]] == [e[key] for e in expected.record["rounds"]]
    lines = (sites.folder / "tone-0/state/sent.jsonl").read_text().splitlines()
    tensors = [tensor for line in lines for tensor in json.loads(line)["tensors"].values()]
    assert {tensor["dtype"] for tensor in tensors} == ({"int8", "float32"} if wire == "int8" else {wire})
    assert got.record["status"] == "complete"
    screen = Console(file=io.StringIO(), width=100)
    screen.print(run_report(got.record))  # a record is a record, whoever carried the messages
    assert "tone-0" in screen.file.getvalue()  # type: ignore[attr-defined]
    with pytest.raises(FedLeaseError, match="is a run over Flower: every site has its adapter itself"):
        fedlease.load(got.folder, "tone-0")
    with pytest.raises(FedLeaseError, match="is a run over Flower: the same 'fedlease deploy'"):
        fedlease.resume(got.folder, rounds=9)
    assert got.record["parameters"] == expected.record["parameters"]
    assert got.record.get("routing") == expected.record.get("routing")
    assert ("routing" in got.record) == (method == "fedlease")
    for name, facts in got.record["clients"].items():
        known = expected.record["clients"][name]
        for key in ("labels", "train_rows", "test_rows", "group", "data", "cut_rows"):
            assert facts[key] == known[key]
        assert "label_counts" not in facts  # how many rows are fraud is nobody's but the site's
        assert facts["rows_hash"] != known["rows_hash"]  # sealed: no table of guesses tells the rows from it


def test_sites_quantise_as_the_specification_says(spec_of: Make, tmp_path: Path) -> None:
    for name in ("bitsandbytes", "accelerate"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'fedlease[quantization]'")
    spec = spec_of(method={"name": "fedit", "rank": 2}, rounds=1)
    spec["model"]["quantization"] = "bnb-4bit"
    sites = Sites(tmp_path / "sites", spec)
    expected = fedlease.run(sites.folder / "spec.toml", tmp_path / "one")
    got = sites.serve(tmp_path / "run")
    assert state(got) == state(expected)
    assert got.metrics == expected.metrics
    assert [entry["loss"] for entry in got.record["rounds"]] == [e["loss"] for e in expected.record["rounds"]]


def test_a_site_refuses_more_tokens_than_its_model_takes(spec_of: Make, tmp_path: Path) -> None:
    spec = spec_of(method={"name": "fedit", "rank": 2}, rounds=1)
    spec["model"]["max_length"] = 4000
    sites = Sites(tmp_path / "sites", spec)
    with pytest.raises(FedLeaseError):
        sites.serve(tmp_path / "run")


def test_sites_compute_as_was_measured_on_their_machine(
    spec_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FEDLEASE_MEASURE", "1")
    spec = spec_of(method={"name": "fedit", "rank": 2}, rounds=1)
    step = {"float32 sdpa": 2.0, "float32 eager": 1.0}
    remember(spec["model"]["name"], 1, Timings(step, "float32 eager", {4: 1.0, 8: 2.0}))
    sites = Sites(tmp_path / "sites", spec)
    expected = fedlease.run(sites.folder / "spec.toml", tmp_path / "one")
    plan = expected.record["plan"]
    assert (plan["attention"], plan["train_rows"]) == ("eager", 4)
    assert state(sites.serve(tmp_path / "run")) == state(expected)
    monkeypatch.setenv("FEDLEASE_MEASURE", "0")
    assert state(fedlease.run(sites.folder / "spec.toml", tmp_path / "rule")) != state(expected)


@pytest.mark.parametrize("at", [6, 10, 13, 14], ids=["training", "scoring", "between rounds", "round 2"])
def test_a_server_killed_and_started_again_equals_one_that_was_not(
    at: int, spec_of: Make, tmp_path: Path
) -> None:
    """Four sites say hello, train and score; a message is counted when its site has answered it."""
    spec = spec_of(method={"name": "fedsa_lora", "rank": 2}, rounds=2)
    expected = fedlease.run(spec, tmp_path / "one")
    sites = Sites(tmp_path / "sites", spec)
    before = at == 13  # the first to be asked in round 2 is not reached: nobody has worked in it
    node = 0 if before else 1
    handler = sites.grid.nodes[node].handler

    class Killed(BaseException):
        """As SIGKILL: nothing of the server's runs after it."""

    def kill(message: Message) -> list[Message]:
        if before and len(sites.asked) + 1 >= at:
            raise Killed
        replies = handler(message)
        if len(sites.asked) >= at:
            raise Killed
        return replies

    sites.grid.nodes[node].handler = kill
    with pytest.raises(Killed):
        sites.serve(tmp_path / "run")
    sites.grid.nodes[node].handler = handler
    got = sites.serve(tmp_path / "run")
    assert state(got) == state(expected)
    assert sites.adapters() == {n: d for n, d in files(expected.folder).items() if n.startswith("adapters")}
    assert [entry["metrics"] for entry in got.record["rounds"]] == [
        entry["metrics"] for entry in expected.record["rounds"]
    ]


@pytest.mark.parametrize(
    "change", [{"training": {"batch_size": 8, "epochs": 9}}, {"data": {"held_out": True}}], ids=str
)
def test_a_site_does_nothing_for_a_server_of_another_specification(
    change: dict[str, Any], spec_of: Make, tmp_path: Path
) -> None:
    sites = Sites(tmp_path / "sites", spec_of(exchange={"deadline": 5}))
    other = spec_of(exchange={"deadline": 5}, **change)
    (sites.folder / "other.toml").write_text(toml(other))
    with pytest.raises(FedLeaseError, match="0 of 4 sites are there after 5 s, and 4 are needed"):
        serve(
            read_spec(sites.folder / "other.toml"),
            sites.folder,
            tmp_path / "run",
            mail(sites.grid, sites.clock),
        )
    assert not (tmp_path / "run").exists()
