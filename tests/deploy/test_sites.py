"""Whole runs over a fake Grid with the real apps: a tiny model, rows, the site's disk, the run's folder."""

from __future__ import annotations

import errno
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict
from grid import Clock, FakeGrid, Node
from rich.console import Console
from runs import Make, files

import fedlease
from fedlease.core.errors import DivergedError, FedLeaseError
from fedlease.core.protocols import Message as Ours
from fedlease.core.wired import Wired
from fedlease.deploy import finish, pipe, trial_lines, worker
from fedlease.deploy.client_app import app
from fedlease.deploy.server import serve
from fedlease.deploy.site_config import read_site
from fedlease.deploy.worker import Worker
from fedlease.engines.mailbox import Mailbox
from fedlease.experiments.spec import read_spec
from fedlease.report.summary import run_report
from fedlease.training.precision import Timings
from fedlease.training.timings import remember

CLIENTS = ("answers-0", "answers-1", "tone-0", "tone-1")


class Sites:
    """Sites in folders of their own, each behind a node that runs the real ClientApp."""

    def __init__(self, folder: Path, spec: dict[str, Any]) -> None:
        self.folder, self.grid, self.clock = folder, FakeGrid(), Clock()
        folder.mkdir(exist_ok=True)
        (folder / "spec.toml").write_text(toml(spec))
        self.asked: list[tuple[str, str]] = []
        for number, name in enumerate(CLIENTS):
            (folder / name).mkdir(exist_ok=True)
            (folder / name / "site.toml").write_text(f'name = "{name}"\nspec = "../spec.toml"\n')
            self.grid.nodes[number] = Node(self.handler(name))

    def handler(self, name: str) -> Callable[[Message], list[Message]]:
        context = Context(1, 1, {"worker": str(self.folder / name / "site.toml")}, RecordDict(), {})

        def answer(message: Message) -> list[Message]:
            self.asked.append((name, message.metadata.message_type))
            return [app(message, context)]

        return answer

    def serve(self, out: Path) -> fedlease.Run:
        spec = read_spec(self.folder / "spec.toml")
        return serve(spec, self.folder, out, Mailbox(self.grid, 1.0, self.clock))  # type: ignore[arg-type]

    def adapters(self) -> dict[str, bytes]:
        """What sites ended up with, as a run in one process names it."""
        found = {}
        for name in CLIENTS:
            (run,) = (self.folder / name / "state" / "adapters").iterdir()
            for path in sorted(run.iterdir()):
                found[f"adapters/{name}/{path.name}"] = path.read_bytes()
        return found


@pytest.fixture(autouse=True)
def _no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker answers in this process, made anew for every message: all it keeps must be on disk."""

    def ask(address: str, kind: str, wired: Wired, beside: dict[str, Any]) -> Any:
        return Worker(read_site(Path(address)))(kind, wired, beside)

    monkeypatch.setattr(pipe, "ask", ask)


def toml(spec: dict[str, Any]) -> str:
    """The spec as TOML: strings and numbers are written alike in JSON."""
    lines = [
        f"{key} = {json.dumps(value)}" for key, value in spec.items() if not isinstance(value, dict | list)
    ]
    for key, table in spec.items():
        if isinstance(table, dict):
            lines += [f"[{key}]", *(f"{k} = {json.dumps(v)}" for k, v in table.items())]
    for client in spec["clients"]:
        lines += ["[[clients]]", *(f"{k} = {json.dumps(v)}" for k, v in client.items())]
    return "\n".join(lines) + "\n"


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


def test_a_site_is_tuned_by_the_model_and_threads_that_its_file_says(
    spec_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FEDLEASE_MEASURE", "1")
    sites = Sites(tmp_path / "sites", spec_of())
    folder = sites.folder / "tone-0"
    (folder / "models/mine").mkdir(parents=True)
    with (folder / "site.toml").open("a") as file:
        file.write('model = "models/mine"\nthreads = 3\n')
    monkeypatch.chdir(folder)
    for model, threads, way in (
        ("models/mine", 3, "eager"),
        ("models/mine", 1, "sdpa"),
        ("minilm", 3, "sdpa"),
    ):
        step = {"float32 sdpa": 1.0, "float32 eager": 1.0, f"float32 {way}": 0.5}
        remember(model, threads, Timings(step, f"float32 {way}", {}))  # as fedlease tune does
    plan = read_site(Path("site.toml")).places().plan
    assert (plan.attention, plan.threads) == ("eager", 3)


def state(run: fedlease.Run) -> bytes:
    """The method's state in the last checkpoint."""
    (last,) = (run.folder / "checkpoint").iterdir()
    return (last / "state.safetensors").read_bytes() + (last / "state.json").read_bytes()


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


def test_a_site_does_nothing_for_a_server_of_another_specification(spec_of: Make, tmp_path: Path) -> None:
    sites = Sites(tmp_path / "sites", spec_of(exchange={"deadline": 5}))
    other = spec_of(exchange={"deadline": 5}, training={"batch_size": 8, "epochs": 9})
    (sites.folder / "other.toml").write_text(toml(other))
    with pytest.raises(FedLeaseError, match="0 of 4 sites are there after 5 s, and 4 are needed"):
        serve(
            read_spec(sites.folder / "other.toml"),
            sites.folder,
            tmp_path / "run",
            Mailbox(sites.grid, 1.0, sites.clock),  # type: ignore[arg-type]
        )
    assert not (tmp_path / "run").exists()


def test_own_rows_of_a_site_are_those_its_file_says(spec_of: Make, tmp_path: Path) -> None:
    sites = Sites(tmp_path / "sites", spec_of())
    folder = sites.folder / "tone-0"
    rows = [{"subject": f"mail {n}", "class": "fraud" if n % 2 else "fine"} for n in range(40)]
    (folder / "bank.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "site.toml").write_text(
        'name = "tone-0"\nspec = "../spec.toml"\n[data]\ntrain = "bank.jsonl"\ntext = ["subject"]\n'
        'label = "class"\nlabels = ["fine", "fraud"]\ntest_rows = 8\n'
    )
    held = read_site(folder / "site.toml").rows()
    assert (len(held.train), len(held.test), held.labels) == (32, 8, ("fine", "fraud"))
    assert {text for row in (*held.train, *held.test) for text in row.texts} == {r["subject"] for r in rows}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('name = "tone-0"\nspec = "../spec.toml"\nkeys = 1', "keys: Extra inputs"),
        ('name = "who"\nspec = "../spec.toml"', "name is who, which ../spec.toml has no client of"),
        ('name = "tone-0"\nspec = "no.toml"', "cannot read .*no.toml"),
        ("name = ", "is not valid TOML"),
        (
            'name = "tone-0"\nspec = "../spec.toml"\n[data]\nlable = "x"',
            r"site\.toml: data\.lable: Extra inputs",
        ),
    ],
)
def test_a_site_file_that_cannot_be_is_said_by_name(
    content: str, said: str, spec_of: Make, tmp_path: Path
) -> None:
    sites = Sites(tmp_path / "sites", spec_of())
    path = sites.folder / "tone-0/site.toml"
    path.write_text(content)
    with pytest.raises(FedLeaseError, match=said):
        read_site(path).rows()
