"""A run on a Ray of its own: bit-equal to one in this process, interrupted and killed or not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import tomli_w
from test_simulation import assert_same

import fedlease
from fedlease.cli.engines import Asked
from fedlease.core.files import read_json

pytest.importorskip("ray", reason="Ray is not installed: pip install 'fedlease[ray]'")
pytestmark = pytest.mark.slow

ROUNDS, DONE = 20, 500.0


def test_it_equals_the_run_in_one_process(spec_of: Any, tmp_path: Path, ended: None) -> None:
    expected = fedlease.run(spec_of(), tmp_path / "one")
    run = fedlease.run(spec_of(), tmp_path / "two", engine=Asked("ray", None, None).carrier())
    assert_same(run, expected)


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command; what a test that fails leaves of it is ended."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "fedlease", *map(str, arguments)]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env=env, preexec_fn=heeding, **pipes))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def test_interrupted_and_killed_it_goes_on_and_leaves_no_process(
    spec_of: Any, tmp_path: Path, ended: None, start: Callable[..., subprocess.Popen[str]]
) -> None:
    spec = spec_of(rounds=ROUNDS, score_every=ROUNDS, method={"name": "feddpa", "rank": 2})
    path, out = tmp_path / "spec.toml", tmp_path / "two"
    path.write_text(tomli_w.dumps(spec))
    process = start("run", path, "--engine", "ray", "--out", out)
    family = after(out, 1, process)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=DONE)
    assert (process.returncode, told[1].startswith("fedlease: stopped")) == (130, True), told
    assert not there(family)  # none outlives the command
    done = rounds(out)
    process = start("resume", out)
    family = after(out, done + 1, process)
    process.kill()
    process.communicate()
    until(lambda: not there(family))  # they notice by themselves
    done = rounds(out)
    assert 1 < done < ROUNDS
    run = fedlease.resume(out, engine=Asked(None, None, None).goes_on(out))
    assert_same(run, fedlease.run(path, tmp_path / "one"))
    assert [one["from_round"] for one in run.record["sessions"]][-1] == done + 1


def heeding() -> None:
    """Take Ctrl-C, also where the tests run in the background and do not."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def rounds(out: Path) -> int:
    record = out / "record.json"
    return len(read_json(record)["rounds"]) if record.is_file() else 0


def after(out: Path, number: int, process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Wait until a round is done, and return all that the process started."""
    until(lambda: rounds(out) >= number or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    return psutil.Process(process.pid).children(recursive=True)


def there(family: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + DONE
    while not what():
        assert time.monotonic() < end, "it does not come to pass"
        time.sleep(0.05)
