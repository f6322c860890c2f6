"""The Flower ClientApp of a simulation: each process that serves clients loads the federation once for all.

Whichever process a message reaches, the answer is the same: what a client keeps is in the run's folder, which
all of them share.
"""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedlease.core.errors import FedLeaseError
from fedlease.core.files import read_bytes
from fedlease.core.progress import Progress
from fedlease.core.protocols import ClientId
from fedlease.core.protocols import Message as Ours
from fedlease.core.rounding import unpacked
from fedlease.deploy.memory import Memory
from fedlease.deploy.pulse import Pulse
from fedlease.deploy.spent import Spent
from fedlease.engines.exchange import SCORE, do_task
from fedlease.engines.flower_messages import from_records, to_records
from fedlease.engines.flower_records import failure
from fedlease.experiments.prepare import Federation, prepare
from fedlease.experiments.reopen import check_model, check_rows, reopen
from fedlease.experiments.spec import Spec
from fedlease.experiments.store import ELSEWHERE, Store

LOG = f"{ELSEWHERE}/ray.log"
"""Where in the run's folder it is told at length what went wrong in other processes."""

app = ClientApp()


@app.train("task")
def task(message: Message, context: Context) -> Message:  # noqa: ARG001
    """Do a task of the method for the client that the message is for."""
    folder = Path()
    try:
        down, beside = from_records(message.content)
        folder = Path(str(beside["folder"]))
        up, told = _serving(folder, str(beside["spec"])).work(down, beside)
        return Message(to_records(up, told), reply_to=message)
    except FedLeaseError as error:
        return Message(failure(str(error)), reply_to=message)
    except Exception as error:
        with (folder / LOG).open("a") as log:
            log.write(traceback.format_exc())
        return Message(failure(f"{type(error).__name__}: {error}"), reply_to=message)


@dataclass
class Serving:
    """Serves any client of a federation, all on one resident base.

    Attributes:
        folder: of the run.
        spec: the run.
        federation: the same that the server has.
        spent: on the task at hand.
        pulse: the sign that it works.
    """

    folder: Path
    spec: Spec
    federation: Federation
    spent: Spent
    pulse: Pulse

    @classmethod
    def of(cls, folder: Path) -> Serving:
        """Load the federation of a run from its folder.

        Raises:
            FedLeaseError: model or rows are not there, or not those of the run.
        """
        store, spent, pulse = Store(folder), Spent(), Pulse(folder)
        pulse()
        resolved, (spec, places) = store.resolved(), reopen(store)

        def step(progress: Progress) -> None:
            spent.step(progress)
            pulse()

        federation = prepare(spec, places, step)
        check_model(resolved, federation.base.path, federation.base.fingerprint, folder)
        for client, facts in federation.clients.items():
            check_rows(resolved, client, facts["rows_hash"], folder)
        return cls(folder, spec, federation, spent, pulse)

    def work(self, down: Ours, beside: Mapping[str, Any]) -> tuple[Ours, dict[str, str | float]]:
        """Do a task; return what goes up, and what is reported beside it.

        Raises:
            FedLeaseError: what the client kept is gone, or cannot be written; then nothing has changed.
        """
        self.pulse()
        client, name = str(beside["client"]), str(beside["task"])
        wire, memory = self.spec.exchange.wire, memory_of(self.folder, int(beside["session"]), client)
        kept = memory.load(str(beside["kept"]))
        self.spent.clear()
        site = self.federation.sites[client]
        up, keeps = do_task(self.federation.algorithm, name, unpacked(down, wire), kept, site, wire)
        if name != SCORE:
            memory.save(str(beside["next"]), keeps)
        memory.forget({str(beside[key]) for key in ("kept", "safe", "next")})
        return up, {**self.spent.told(), "place": f"{socket.gethostname()}:{os.getpid()}"}


@lru_cache(maxsize=1)
def _serving(folder: Path, spec: str) -> Serving:
    """What this process serves, loaded at its first message."""
    if not (folder / "spec.json").is_file() or digest(folder) != spec:
        raise FedLeaseError(
            f"{socket.gethostname()} does not see the run's folder {folder}: put it on storage that all "
            "machines share, at the same path (--out)"
        )
    return Serving.of(folder)


def memory_of(folder: Path, session: int, client: ClientId) -> Memory:
    """Where a client's memory is; each start of a run has its own, so an older one cannot disturb it."""
    return Memory(folder / ELSEWHERE / str(session) / client)


def digest(folder: Path) -> str:
    """A hash of a run's specification, to know that the folder is the one that the server sees."""
    return blake2b(read_bytes(folder / "spec.json"), digest_size=8).hexdigest()
