"""A run on Ray, its own or a cluster: bit-equal to one in this process, interrupted and killed or not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import tomli_w
from test_simulation import assert_same

import fedlease
from fedlease.cli.engines import Asked
from fedlease.core.errors import FedLeaseError
from fedlease.core.files import read_json
from fedlease.deploy import on_ray
from fedlease.deploy.on_ray import AS_THE_SERVER
from fedlease.deploy.processes import command, free_ports
from fedlease.deploy.pulse import Silence
from fedlease.deploy.site import LOCAL, sockets

pytest.importorskip("ray", reason="Ray is not installed: pip install 'fedlease[ray]'")
pytestmark = pytest.mark.slow

ROUNDS, DONE = 20, 120.0


def test_on_a_cluster_it_ends_where_nobody_works_and_goes_on_to_equal_the_run_in_one_process(
    spec_of: Any, tmp_path: Path, ended: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fedlease.run(spec_of(), tmp_path / "one")
    with cluster() as address:
        engine = Asked("ray", address, None).carrier()
        with monkeypatch.context() as patch:
            patch.setattr(
                on_ray, "Silence", partial(Silence, limit=0.5)
            )  # an actor has not even begun by then
            with pytest.raises(FedLeaseError, match=r"no actor has done .* 2 CPUs of the cluster are free\)"):
                fedlease.run(spec_of(), tmp_path / "two", engine=engine)
        assert not [
            one for one in threading.enumerate() if "Executor" in one.name
        ]  # nobody waits for an actor
        run = fedlease.resume(tmp_path / "two", engine=engine)
    assert_same(run, expected)


@contextmanager
def cluster() -> Iterator[str]:
    """A Ray cluster of this machine alone, started as its users start one; its address."""
    (port,) = free_ports(1)
    with sockets() as folder:
        begin = [command("ray"), "start", "--head", f"--port={port}", "--num-cpus=2", "--block"]
        begin += [f"--node-ip-address={LOCAL}", f"--temp-dir={folder}", "--include-dashboard=false"]
        log, env = folder / "head.log", {**os.environ, **AS_THE_SERVER}
        with log.open("w") as out:
            head = subprocess.Popen(begin, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=env)
        try:
            until(lambda: "Ray runtime started" in log.read_text(), log.read_text)
            yield f"{LOCAL}:{port}"
        finally:
            head.terminate()  # it ends what it started
            head.wait(DONE)


class Started:
    """A command in a process of its own, with what it says in files: whoever it starts may outlive it."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self.said = folder / "said.log"
        with self.said.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fedlease", *map(str, arguments)],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                preexec_fn=heeding,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def after(self, out: Path, number: int) -> list[psutil.Process]:
        """Wait until a round is done, and return all that it started."""
        until(lambda: rounds(out) >= number or self.process.poll() is not None, self.said.read_text)
        assert self.process.poll() is None, self.said.read_text()
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Start a command; what a test that fails leaves of it is ended."""
    started: list[Started] = []

    def begin(*arguments: object) -> Started:
        started.append(Started(tmp_path, *arguments))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        one.process.wait(DONE)


def test_interrupted_and_killed_it_goes_on_and_leaves_no_process(
    spec_of: Any, tmp_path: Path, ended: None, start: Callable[..., Started]
) -> None:
    spec = spec_of(rounds=ROUNDS, score_every=ROUNDS, method={"name": "feddpa", "rank": 2})
    path, out = tmp_path / "spec.toml", tmp_path / "two"
    path.write_text(tomli_w.dumps(spec))
    one = start("run", path, "--engine", "ray", "--out", out)
    family = one.after(out, 1)
    one.process.send_signal(signal.SIGINT)
    assert one.process.wait(DONE) == 130
    assert "fedlease: stopped" in one.said.read_text()
    assert not there(family)  # none outlives the command
    done = rounds(out)
    one = start("resume", out)
    family = one.after(out, done + 1)
    one.process.kill()
    one.process.wait(DONE)
    done = rounds(out)
    assert 1 < done < ROUNDS
    assert Asked(None, None, None).goes_on(out).name == "ray"
    run = fedlease.resume(out)
    assert_same(run, fedlease.run(path, tmp_path / "one"))
    assert [one["from_round"] for one in run.record["sessions"]][-1] == done + 1
    until(lambda: not there(family), lambda: str(there(family)))  # what was killed: it ends by itself


def heeding() -> None:
    """Take Ctrl-C, also where the tests run in the background and do not."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def rounds(out: Path) -> int:
    record = out / "record.json"
    return len(read_json(record)["rounds"]) if record.is_file() else 0


def there(family: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def until(what: Callable[[], bool], why: Callable[[], str]) -> None:
    """Wait for something to come to pass, not for ever; ``why`` says what is known where it does not."""
    end = time.monotonic() + DONE
    while not what():
        assert time.monotonic() < end, why()
        time.sleep(0.05)
