"""The clients of a run as nodes of Flower's simulation, which actors on a Ray cluster serve."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

from fedlease.core.errors import FedLeaseError
from fedlease.deploy import ray_actors
from fedlease.deploy.aside import aside
from fedlease.deploy.processes import QUIET
from fedlease.deploy.pulse import Silence
from fedlease.deploy.site import sockets
from fedlease.experiments.engine import RunEngine, Start
from fedlease.experiments.store import ELSEWHERE

if TYPE_CHECKING:
    from fedlease.engines.mailbox import Mailbox

LOCAL = "local"
"""Ray's word for: start one here, whatever else is there."""

AS_THE_SERVER = {"RAY_worker_niceness": "0"}
"""Ray would have its workers yield to all else on the machine: a run in one process does not, either."""

OURS_ALONE = {"RAY_gcs_rpc_server_reconnect_timeout_s": "5"}
"""Actors of a Ray of the run's own end when it is killed: Ray would have them wait for it for a minute."""

LOOK = 0.05
"""Seconds between two looks for answers, which costs nothing in one process."""

STARTS = 3
"""How often a Ray of one's own is started: it gives its processes 30 s, and a busy machine may need more."""

ENDING = 3.0
"""Seconds that Flower's simulation has to end: its threads look up once a second."""


@dataclass(frozen=True)
class OnRay:
    """A `Carrier`: any actor serves any client, on a base that each has loaded once.

    Attributes:
        address: of a Ray cluster to join, ``"auto"`` for one on this machine; None is RAY_ADDRESS, else a Ray
            of its own on this machine, which ends with the run.
        cpus: that an actor takes for itself; None is as many as the run has threads.
    """

    address: str | None = None
    cpus: int | None = None
    name: str = "ray"

    def check(self) -> None:
        """See `Carrier`."""
        if find_spec("ray") is None or find_spec("flwr") is None:
            raise FedLeaseError("Ray is not installed: pip install 'fedlease[ray]'")

    @contextmanager
    def start(self, start: Start) -> Iterator[RunEngine]:
        """See `Carrier`.

        Raises:
            FedLeaseError: no such cluster, or none of its machines has what an actor needs.
        """
        # read when Flower and Ray are imported, and by the processes they start
        address = self.address or os.environ.get("RAY_ADDRESS") or LOCAL
        os.environ.update(QUIET | AS_THE_SERVER | (OURS_ALONE if address == LOCAL else {}))
        from fedlease.deploy.simulation import simulated

        plan, clients = start.federation.plan, len(start.spec.ids)
        each = {"num_cpus": self.cpus or plan.threads, "num_gpus": 1 if plan.device == "cuda" else 0}
        with (
            aside(start.store.folder / ELSEWHERE / "ray.log"),
            _cluster(address, each, clients),
            _grid(each, clients, Silence(start.store.folder, known=ray_actors.told)) as mail,
            simulated(start, mail) as engine,
        ):
            yield engine


@contextmanager
def _cluster(address: str, each: Mapping[str, int], clients: int) -> Iterator[None]:
    """Start a Ray or join one, and leave it; what was started here ends."""
    import ray

    before = _handlers()
    with sockets() as folder:
        try:
            for left in reversed(range(STARTS)):
                try:
                    _init(address, each, clients, folder)
                    break
                except Exception as error:  # Ray's own are of all kinds
                    ray.shutdown()
                    if address != LOCAL:
                        raise FedLeaseError(f"no Ray can be reached at {address}: {error}") from error
                    if not left:
                        raise FedLeaseError(f"Ray does not start on this machine: {error}") from error
            _restore(before)  # Ray has one of its own for SIGTERM
            if not _fits(ray.nodes(), each):
                wanted = f"{each['num_cpus']} CPUs" + (" and a GPU" if each["num_gpus"] else "")
                raise FedLeaseError(
                    f"no machine of the Ray cluster at {address} has {wanted} for an actor: lower --ray-cpus "
                    "or model.threads"
                )
            yield
        finally:
            ray.shutdown()
            _restore(before)


def _init(address: str, each: Mapping[str, int], clients: int, folder: Path) -> None:
    """Start a Ray whose files are in a folder, or join one; no more of it is shown or told to anybody."""
    import ray

    more: dict[str, Any] = {"runtime_env": {"env_vars": {**QUIET, **_asked()}}}
    if address == LOCAL:
        actors = max(1, min(len(os.sched_getaffinity(0)) // each["num_cpus"], clients))
        more = {"_temp_dir": str(folder), "num_cpus": actors * each["num_cpus"]}
        if not each["num_gpus"]:
            more["num_gpus"] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(address, configure_logging=False, log_to_driver=False, include_dashboard=False, **more)


def _asked() -> dict[str, str]:
    """What this process's environment says that actors elsewhere have to know, too."""
    return {key: os.environ[key] for key in ("HF_HUB_OFFLINE",) if key in os.environ}


def _handlers() -> dict[int, Any]:
    """Who handles the signals that end a process; nobody but the main thread can say or change it."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}


def _restore(handlers: Mapping[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _fits(nodes: list[dict[str, Any]], each: Mapping[str, int]) -> bool:
    """Tell whether there is a machine for at least one actor."""
    there = [node["Resources"] for node in nodes if node["Alive"]]
    return any(
        has.get("CPU", 0) >= each["num_cpus"] and has.get("GPU", 0) >= each["num_gpus"] for has in there
    )


@dataclass(frozen=True)
class _Clock:
    """The time, while Flower's simulation goes on and actors are at work."""

    thread: threading.Thread
    failed: list[BaseException]
    silence: Silence

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float, /) -> None:
        self.silence.wait(seconds)
        self.check()

    def check(self) -> None:
        if not self.thread.is_alive():
            why = str(self.failed[0]) if self.failed else "it does not say why"
            raise FedLeaseError(f"Flower's simulation ended: {why}")


@contextmanager
def _grid(each: Mapping[str, int], clients: int, silence: Silence) -> Iterator[Mailbox]:
    """Run Flower's simulation in a thread, and give what reaches its nodes.

    Flower would have the server in a thread and itself here. The other way round Ctrl-C ends the server where
    it waits, not Flower's executor. flwr 1.41 calls `run_simulation` deprecated in favour of the command
    ``flwr run``, whose server is yet another process; nothing that can be imported replaces it.
    """
    from flwr.app import Context
    from flwr.serverapp import Grid, ServerApp
    from flwr.simulation import run_simulation
    from flwr.supercore import telemetry

    from fedlease.deploy.actor import app
    from fedlease.engines.mailbox import Mailbox

    telemetry.FLWR_TELEMETRY_ENABLED = "0"  # also where Flower was imported before it could be told
    telemetry.state["source"] = "off"  # else it makes an identity and keeps it in the home folder
    given, over, server, failed = Queue[Grid](), threading.Event(), ServerApp(), list[BaseException]()

    @server.main()
    def main(grid: Grid, context: Context) -> None:  # noqa: ARG001
        given.put(grid)
        over.wait()

    def simulate() -> None:
        try:
            run_simulation(server, app, clients, backend_config={"client_resources": dict(each)})
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=simulate, name="flower", daemon=True)
    clock = _Clock(thread, failed, silence)
    thread.start()
    try:
        while True:
            try:
                grid = given.get(timeout=LOOK)
                break
            except Empty:
                clock.check()
        while len(list(grid.get_node_ids())) < clients:
            clock.sleep(LOOK)
        yield Mailbox(grid, LOOK, clock)
    finally:
        over.set()
        logging.getLogger("flwr").disabled = True  # it would tell of actors that died, at length
        with suppress(Exception):  # Ray's own are of all kinds; then it is gone, and they with it
            ray_actors.end()  # one may be at work, and nobody waits for what comes of it
        thread.join(ENDING)
        logging.getLogger("flwr").disabled = False
