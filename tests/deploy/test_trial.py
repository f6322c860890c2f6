"""A federation of real processes on loopback, with TLS and node keys: one trial for all that is asked."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
from trials import assert_equal, kill_app, kill_site, sent, until

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


def test_killed_on_both_sides_with_tls_it_equals_the_run_in_one_process(
    tiny: Path, tmp_path: Path, ended: None
) -> None:
    spec = make_spec(spec_for(tiny))
    expected = fedlease.run(spec, tmp_path / "one")
    said: list[str] = []
    trial = Trial(tmp_path / "trial", tls=True, said=said.append)
    trial.prepare(spec, tmp_path)

    with sockets() as at, trial.processes() as processes:
        trial.start_server(processes)
        for name in SITES:
            trial.register(processes, name)
            trial.start_site(processes, name, at)
        refused(trial, processes)
        trial.submit(processes)
        until(lambda: all(sent(trial, name, '"task": "hello"') for name in SITES), processes)
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
    assert_equal(trial, run, expected)
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
