"""A federation of real processes on loopback, with TLS and node keys: one trial for all that is asked."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import fedlease
from fedlease.deploy.keys import write_certificates, write_site_key
from fedlease.deploy.processes import Processes
from fedlease.deploy.site import LOCAL, sockets
from fedlease.deploy.trial import Trial
from fedlease.experiments.spec import make_spec

pytestmark = pytest.mark.slow

SITES = ("answers", "tone")


def spec_for(tiny: Path) -> dict[str, Any]:
    return {
        "name": "small",
        "rounds": 2,
        "score_every": 2,
        "model": {"name": str(tiny), "threads": 1, "precision": "float32", "max_length": 32},
        "method": {"name": "fedsa_lora", "rank": 2},
        "training": {"batch_size": 8, "epochs": 1, "learning_rate": 0.01},
        "exchange": {"deadline": 150.0, "quorum": 1.0},
        "clients": [{"name": name, "data": name, "train_rows": 24, "test_rows": 10} for name in SITES],
    }


def until(what: Callable[[], bool], processes: Processes, seconds: float = 150.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        processes.check()
        assert time.monotonic() < end, "it does not come to pass"
        time.sleep(0.1)


@pytest.fixture
def ended() -> Iterator[None]:
    """Whatever the test starts is gone after it: no process of its own, no open port."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    left = [c for c in psutil.Process().children(recursive=True) if c.pid not in before]
    assert not left


def test_killed_on_both_sides_with_tls_it_equals_the_run_in_one_process(
    tiny: Path, tmp_path: Path, ended: None
) -> None:
    spec = make_spec(spec_for(tiny))
    expected = fedlease.run(spec, tmp_path / "one")
    said: list[str] = []
    trial = Trial(tmp_path / "trial", tls=True, said=said.append)
    trial.prepare(spec, tmp_path)
    log = {name: trial.folder / "sites" / name / "state" / "sent.jsonl" for name in SITES}

    def sent(name: str, task: str) -> int:
        return log[name].read_text().count(f'"task": "{task}"') if log[name].is_file() else 0

    with sockets() as at, trial.processes() as processes:
        trial.start_server(processes)
        for name in SITES:
            trial.register(processes, name)
            trial.start_site(processes, name, at)
        refused(trial, processes)
        trial.submit(processes)
        until(lambda: all(sent(name, "hello") for name in SITES), processes)
        kill_site(processes, "tone")  # before or while it trains in round 1
        trial.start_site(processes, "tone", at)
        until(lambda: bool(trial._rounds()), processes)
        processes.end("run", kill=True)
        kill_app(processes)  # the server's app, after round 1
        trial.submit(processes)
        run = trial.wait(processes)
        family = [p.pid for one in processes.running.values() for p in [psutil.Process(one.pid)]]
        port = trial.port
    assert not any(psutil.pid_exists(pid) for pid in family)
    with socket.socket() as one:
        assert one.connect_ex((LOCAL, port)) != 0
    assert state(run) == state(expected)
    for name in SITES:
        (folder,) = (trial.folder / "sites" / name / "state" / "adapters").iterdir()
        for path in folder.iterdir():
            assert path.read_bytes() == (expected.adapter(name) / path.name).read_bytes()
    assert run.metrics == expected.metrics
    assert not any("left_out" in entry for entry in run.record["rounds"])
    assert len(run.record["sessions"]) == 2


def refused(trial: Trial, processes: Processes) -> None:
    """A key that is not registered, and a server that another authority vouches for: neither connects."""
    stranger = trial.folder / "stranger"
    write_site_key(stranger / "key")
    write_certificates(stranger / "other", ["localhost", LOCAL])
    tried = {
        "unregistered": (trial.authority, stranger / "key"),
        "other authority": (stranger / "other" / "ca.crt", trial.folder / "keys" / "tone"),
    }
    logs = {name: stranger / f"{name}.log" for name in tried}
    asked = []
    for name, (certificate, key) in tried.items():
        arguments = ["flower-supernode", "--superlink", f"{LOCAL}:{trial.port}", "--max-retries", "0"]
        arguments += ["--root-certificates", str(certificate), "--auth-supernode-private-key", str(key)]
        arguments += ["--host", LOCAL, "--port", str(free())]
        with logs[name].open("wb") as log:
            asked.append(subprocess.Popen(arguments, env=dict(processes.environment), stdout=log, stderr=log))
    try:
        assert all(one.wait(100) != 0 for one in asked)
    finally:
        for one in asked:
            one.kill()
            one.wait()
    assert "Failed to activate SuperNode" in logs["unregistered"].read_text()
    assert "CERTIFICATE_VERIFY_FAILED" in logs["other authority"].read_text()


def free() -> int:
    with socket.socket() as one:
        one.bind((LOCAL, 0))
        return int(one.getsockname()[1])


def kill_site(processes: Processes, name: str) -> None:
    for process in (f"{name}.worker", name):
        processes.end(process, kill=True)


def kill_app(processes: Processes) -> None:
    """SIGKILL the ServerApp: a process of the SuperLink's, known by its command."""
    for child in psutil.Process(processes.running["superlink"].pid).children(recursive=True):
        if "flwr-serverapp" in " ".join(child.cmdline()):
            os.kill(child.pid, 9)


def state(run: fedlease.Run) -> bytes:
    (last,) = (run.folder / "checkpoint").iterdir()
    return (last / "state.safetensors").read_bytes() + (last / "state.json").read_bytes()
