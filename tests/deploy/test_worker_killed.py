"""A worker that is killed over a question and started again gives the same answer, once."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedlease.core.errors import FedLeaseError
from fedlease.core.wired import Wired, digest_of
from fedlease.deploy import pipe
from fedlease.deploy.processes import Processes, environment
from fedlease.deploy.site import sockets
from fedlease.deploy.trial import Trial

WORKER = """
import os, signal, sys
from pathlib import Path
from fedlease.deploy.pipe import answer
address, log, dies = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def handler(kind, wired, beside):
    with log.open("a") as file:
        file.write(kind)
    if len(log.read_text()) <= dies:
        os.kill(os.getpid(), signal.SIGKILL)
    return kind, wired, beside

answer(str(address), handler)
"""

QUESTION = Wired(b"weights", "{}", digest_of(b"weights", "{}"))


def watched(processes: Processes, what: Callable[[], Any]) -> Any:
    """Do something while ended processes are started again, as ``fedlease site`` does."""
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            processes.check()
            time.sleep(0.05)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        return what()
    finally:
        over.set()
        looking.join(60)
        assert not looking.is_alive()


@pytest.mark.parametrize("dies", [0, 1, 2])
def test_a_worker_that_is_killed_is_asked_once_more(dies: int, tmp_path: Path) -> None:
    with sockets() as at, Processes(tmp_path, environment(tmp_path)) as processes:
        address, log = str(at / "socket"), tmp_path / "asked"
        log.touch()
        processes.start("w", [sys.executable, "-c", WORKER, address, str(log), str(dies)], lasted=0.0)

        def ask() -> Any:
            return pipe.ask(address, "q", QUESTION, {"kept": "v"})

        if dies < pipe.DEATHS:
            assert watched(processes, ask) == ("q", QUESTION, {"kept": "v"})
        else:
            with pytest.raises(FedLeaseError, match="the worker of the site ended 2 times over the question"):
                watched(processes, ask)
        assert log.read_text() == "q" * min(dies + 1, pipe.DEATHS)


def test_a_worker_that_ends_at_once_is_said_and_not_started_for_ever(tmp_path: Path) -> None:
    with Processes(tmp_path, environment(tmp_path)) as processes:
        program = [sys.executable, "-c", "print('fedlease: no rows'); raise SystemExit(3)"]
        processes.start("w", program, lasted=60.0).wait(60)
        with pytest.raises(FedLeaseError, match="w ended with status 3: no rows"):
            processes.check()


def test_a_trial_of_which_nothing_comes_ends(tmp_path: Path) -> None:
    trial = Trial(tmp_path, patience=0.3)
    with trial.processes() as processes:
        processes.start("run", [sys.executable, "-c", "import time; time.sleep(60)"])
        with pytest.raises(FedLeaseError, match=r"nothing came of the run in 0.3 s; .*logs says more"):
            trial.wait(processes)
