"""What tests with real processes share: waiting, killing, and comparing with a run in one process."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

import fedlease
from fedlease.deploy import site
from fedlease.deploy.processes import Processes
from fedlease.deploy.site_config import SiteConfig
from fedlease.deploy.trial import Trial

PATIENCE = 150.0
"""Seconds that a test waits for one thing to come to pass."""

HASTY = """
import os, signal, sys
from flwr.supercore import heartbeat
from flwr.supernode import cli, fleet_http_connection, start_client_internal
heartbeat.HEARTBEAT_DEFAULT_INTERVAL = fleet_http_connection.HEARTBEAT_DEFAULT_INTERVAL = 10
left, push = int(sys.argv.pop(1)), start_client_internal.push_object_contents_from_iterable

def pushed(*arguments, **named):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    push(*arguments, **named)

start_client_internal.push_object_contents_from_iterable = pushed
sys.exit(cli.flower_supernode())
"""
"""A SuperNode that says every few seconds that it is there, for which Flower has no setting. Its server takes
a killed one to be there for two of its intervals, so it lets it in again after 20 s instead of 60.

Its first argument says over which answer it dies, 0 for none: when Flower's server was told of the answer
and no part of it is there."""


def hasten(patch: pytest.MonkeyPatch, folder: Path, dies: Mapping[str, int]) -> None:
    """Have sites start such a SuperNode, the first of a site to die over the answer given for its name."""
    program, start, left = folder / "hasty.py", site._supernode, dict(dies)
    program.write_text(HASTY)

    def hasty(config: SiteConfig, address: Path) -> list[str]:
        return [sys.executable, str(program), str(left.pop(config.name, 0)), *start(config, address)[1:]]

    patch.setattr(site, "_supernode", hasty)


def until(what: Callable[[], bool], processes: Processes) -> None:
    """Wait for something to come to pass while all processes are there."""
    end = time.monotonic() + PATIENCE
    while not what():
        processes.check()
        assert time.monotonic() < end, "it does not come to pass"
        time.sleep(0.1)


@contextmanager
def logs_told(*folders: Path) -> Iterator[None]:
    """Whatever fails while this is open, what all logs below these folders said last is told."""
    try:
        yield
    except BaseException:
        for path in sorted(path for folder in folders for path in folder.rglob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-15:]
            print("", f"-- {path}", *lines, sep="\n", file=sys.stderr)
        raise


def sent(trial: Trial, name: str, what: str) -> int:
    """How many messages a site has sent of which its log says this."""
    log = trial.folder / "sites" / name / "state" / "sent.jsonl"
    return log.read_text().count(what) if log.is_file() else 0


def kill_site(processes: Processes, name: str) -> None:
    """SIGKILL a site's worker and its SuperNode."""
    for process in (f"{name}.worker", name):
        processes.end(process, kill=True)


def state(run: fedlease.Run) -> bytes:
    """The method's state in the last checkpoint."""
    (last,) = (run.folder / "checkpoint").iterdir()
    return (last / "state.safetensors").read_bytes() + (last / "state.json").read_bytes()


def assert_equal(trial: Trial, run: fedlease.Run, expected: fedlease.Run) -> None:
    """The server's weights, every site's adapter and all scores are those of the run in one process."""
    assert state(run) == state(expected)
    for name in expected.metrics:
        (folder,) = (trial.folder / "sites" / name / "state" / "adapters").iterdir()
        for path in sorted(folder.iterdir()):
            assert path.read_bytes() == (expected.adapter(name) / path.name).read_bytes(), path
    assert run.metrics == expected.metrics
    assert not any("left_out" in entry for entry in run.record["rounds"])
