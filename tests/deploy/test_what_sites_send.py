"""What leaves a site is in its log, and what cannot be used of it or fails is told of."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from fake_sites import Sites
from flwr.app import Message
from runs import Make

from fedlease.core.errors import DivergedError
from fedlease.core.protocols import Message as Ours
from fedlease.deploy import finish, trial_lines, worker
from fedlease.deploy.site_config import read_site
from fedlease.experiments.spec import read_spec

pytestmark = pytest.mark.usefixtures("workers_here")


def test_all_that_leaves_a_site_is_in_its_log_and_no_row_is(spec_of: Make, tmp_path: Path) -> None:
    sites = Sites(tmp_path / "sites", spec_of(rounds=2))
    sent: list[Message] = []
    for number, node in list(sites.grid.nodes.items()):

        def watched(message: Message, handler: Any = node.handler, number: int = number) -> list[Message]:
            replies = handler(message)
            sent.extend(replies if number == 2 else [])
            return replies

        node.handler = watched
    sites.serve(tmp_path / "run")
    lines = [json.loads(line) for line in (sites.folder / "tone-0/state/sent.jsonl").read_text().splitlines()]
    assert len(lines) == len(sent)
    assert [line["task"] for line in lines] == ["hello", "warm_up", "score", "train", "score", "finish"]
    for line, message in zip(lines, sent, strict=True):
        records = message.content
        assert line["digest"] == records.config_records["body"]["digest"]
        array = records.array_records["weights"]["all"]
        assert line["bytes"] == len(array.data) + len(str(records.config_records["body"]["facts"]))
        assert line["beside"] == dict(records.config_records["beside"])
        assert set(line["beside"]) <= {"rows", "seconds", "loss"}
    up = lines[1]["tensors"]
    assert up["bert.encoder.layer.0.attention.self.query.A"] == {
        "shape": [2, 32],
        "dtype": "float32",
        "bytes": 2 * 32 * 4,
    }
    assert sum(tensor["bytes"] for tensor in up.values()) == 2 * 2 * (2 * 32 + 32 * 2) * 4
    rows = read_spec(sites.folder / "spec.toml")
    assert rows.ids
    held = read_site(sites.folder / "tone-0/site.toml").rows()
    everything = b"".join(
        bytes(m.content.array_records["weights"]["all"].data)
        + str(m.content.config_records["body"]["facts"]).encode()
        for m in sent
    )
    assert not any(row.texts[0].encode() in everything for row in (*held.train, *held.test))


def test_what_fails_and_what_is_lacking_is_in_the_log_as_it_is_told(
    spec_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites = Sites(tmp_path / "sites", spec_of(rounds=2, method={"name": "ffa_lora", "rank": 2}))
    told: list[dict[str, Any]] = []
    handler, work = sites.grid.nodes[2].handler, worker.do_task

    def forgets(message: Message) -> list[Message]:
        if len(told) == 3:  # hello, train, score are over: to score round 2 it is sent a hash of A
            shutil.rmtree(sites.folder / "tone-0/state/held")
        replies = handler(message)
        told.extend(dict(reply.content.config_records["beside"]) for reply in replies)
        return replies

    def fails(algorithm: Any, task: str, down: Any, kept: Any, site: Any, wire: Any) -> Any:
        if task == "score" and site.client == "tone-0":
            raise DivergedError("client tone-0: too far") if len(told) > 3 else ValueError("a row")
        return work(algorithm, task, down, kept, site, wire)

    sites.grid.nodes[2].handler = forgets
    monkeypatch.setattr(worker, "do_task", fails)
    sites.serve(tmp_path / "run")
    lines = [json.loads(line) for line in (sites.folder / "tone-0/state/sent.jsonl").read_text().splitlines()]
    assert [line["beside"] for line in lines] == told
    assert [(line["task"], line["round"]) for line in lines] == [
        ("hello", 0),
        ("train", 1),
        ("score", 0),
        ("train", 2),
        ("score", 0),
        ("score", 0),
        ("finish", 0),
    ]
    assert [lines[n]["beside"] for n in (2, 4, 5)] == [
        {"failed": "ValueError; the site's log says more"},
        {"lacks": 1},
        {"failed": "client tone-0: too far"},
    ]


def test_nonsense_at_the_end_is_left_out_of_the_record() -> None:
    known = {"a": {"labels": []}, "b": {"labels": []}, "c": {"labels": []}}
    used = '{"m": {"experts": 1.5, "weights": [0.5, 0.5], "entropy": %s}}'
    ends = {
        "a": Ours({}, {"cut_train": 1, "cut_test": 0, "routing": used % "0.75"}),
        "b": Ours({}, {"cut_train": "many", "cut_test": 0, "routing": '{"m": 1}'}),
        "c": Ours({}, {"routing": used % "NaN"}),
    }
    told = finish.told(known, ends)
    assert told["clients"] == {**known, "a": {"labels": [], "cut_rows": {"train": 1, "test": 0}}}
    assert told["routing"] == {"a": {"m": {"experts": 1.5, "weights": (0.5, 0.5), "entropy": 0.75}}}


def test_a_full_disk_at_a_site_leaves_it_out_and_nothing_unlogged_goes(
    spec_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spec = spec_of(rounds=2, method={"name": "fedit", "rank": 2}, exchange={"initial_quorum": 0.5})
    sites = Sites(tmp_path / "sites", spec)
    import os

    real = os.fsync

    def full(descriptor: int) -> None:
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        if "tone-1/state" in name and len(sites.asked) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    record = sites.serve(tmp_path / "run").record
    left_out = [one for entry in record["rounds"] for one in entry["left_out"]]
    assert {one["client"] for one in left_out} == {"tone-1"}
    assert {one["task"] for one in left_out} == {"train", "score"}
    assert {one["reason"] for one in left_out} == {"failed: FedLeaseError; the site's log says more"}
    (end,) = record["left_out"]
    assert end == {"client": "tone-1", "task": "finish", "reason": left_out[0]["reason"]}
    assert f"tone-1 is left out of finish: it {end['reason']}" in caplog.text
    assert trial_lines.left_out(record) == [f"  tone-1 is left out of finish: it {end['reason']}"]
    assert len((sites.folder / "tone-1/state/sent.jsonl").read_text().splitlines()) == 1  # hello
    monkeypatch.setattr(os, "fsync", real)
    assert "left_out" not in sites.serve(tmp_path / "run").record  # started again, it asks all to finish
    assert any(path.startswith("adapters/tone-1/") for path in sites.adapters())
