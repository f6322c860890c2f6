"""What tests with real processes share: waiting, killing, and comparing with a run in one process."""

from __future__ import annotations

import time
from collections.abc import Callable

import fedlease
from fedlease.deploy.processes import Processes
from fedlease.deploy.trial import Trial


def until(what: Callable[[], bool], processes: Processes, seconds: float = 500.0) -> None:
    """Wait for something to come to pass while all processes are there."""
    end = time.monotonic() + seconds
    while not what():
        processes.check()
        assert time.monotonic() < end, "it does not come to pass"
        time.sleep(0.1)


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
