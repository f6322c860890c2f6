"""A federation of real processes on loopback, with TLS and node keys: one trial for all that is asked."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
from trials import PATIENCE, assert_equal, hasten, kill_site, logs_told, sent, until

import fedlease
from fedlease.core.errors import FedLeaseError
from fedlease.deploy.keys import write_certificates, write_site_key
from fedlease.deploy.processes import Processes
from fedlease.deploy.site import LOCAL, sockets
from fedlease.deploy.trial import Trial, deploy
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
        "exchange": {"deadline": PATIENCE, "quorum": 1.0},
        "clients": [{"name": name, "data": name, "train_rows": 24, "test_rows": 10} for name in SITES],
    }


def test_killed_on_both_sides_with_tls_it_equals_the_run_in_one_process(
    tiny: Path, tmp_path: Path, ended: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten(monkeypatch, tmp_path, {"tone": 2})  # the first answer says who it is
    spec = make_spec(spec_for(tiny))
    expected = fedlease.run(spec, tmp_path / "one")
    trial = Trial(tmp_path / "trial", tls=True)
    trial.prepare(spec, tmp_path)
    with logs_told(trial.folder), sockets() as at, trial.processes() as processes:
        start(trial, processes, at)
        trial.submit(processes)
        assert processes.running["tone"].wait(PATIENCE) == -signal.SIGKILL
        assert sent(trial, "tone", '"round": 1')  # so its site noted, and nothing of it arrived
        kill_site(processes, "tone")
        trial.start_site(processes, "tone", at)
        refused(trial, processes)
        until(lambda: any(sent(trial, name, '"round": 2') for name in SITES), processes)
        killed(trial, processes)  # in round 2: a site has trained in it, and the server never hears of it
    with logs_told(trial.folder):
        run = deploy(spec, tmp_path, tmp_path / "trial", tls=True, patience=PATIENCE)
    assert_equal(trial, run, expected)
    assert [one["from_round"] for one in run.record["sessions"]] == [1, 2]


def start(trial: Trial, processes: Processes, at: Path) -> None:
    trial.start_server(processes)
    for name in SITES:
        trial.register(processes, name)
        trial.start_site(processes, name, at)


def killed(trial: Trial, processes: Processes) -> None:
    """SIGKILL the SuperLink alone: the trial says so, and what it leaves behind ends."""
    server = psutil.Process(processes.running["superlink"].pid)
    family = [server, *server.children(recursive=True)]
    assert any("flwr-serverapp" in " ".join(one.cmdline()) for one in family)
    server.kill()
    with pytest.raises(FedLeaseError, match=r"superlink ended with status -9|the run ended"):
        trial.wait(processes)
    processes.__exit__(None, None, None)
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family)
    with socket.socket() as one:
        assert one.connect_ex((LOCAL, trial.port)) != 0


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
            one.wait(PATIENCE)
    assert "Failed to activate SuperNode" in logs["unregistered"].read_text()
    assert "CERTIFICATE_VERIFY_FAILED" in logs["other authority"].read_text()


def free() -> int:
    with socket.socket() as one:
        one.bind((LOCAL, 0))
        return int(one.getsockname()[1])
