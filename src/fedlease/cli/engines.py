"""Which engine carries a run's messages, as the command line says it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from fedlease.core.errors import FedLeaseError

if TYPE_CHECKING:
    from fedlease.experiments.engine import Carrier

ENGINES = ("in-process", "ray")

Engine = Annotated[str | None, typer.Option("--engine", help=f"{' or '.join(ENGINES)}.", show_default=False)]
Address = Annotated[
    str | None,
    typer.Option(help="A Ray cluster to join, or auto; else RAY_ADDRESS, else one is started here."),
]
Cpus = Annotated[
    int | None, typer.Option(min=1, help="CPUs that a Ray actor takes; by default the run's threads.")
]


@dataclass(frozen=True)
class Asked:
    """What was said of the engine.

    Attributes:
        engine: None is in-process, or the one that a run began with.
        address, cpus: for Ray alone.
    """

    engine: str | None
    address: str | None
    cpus: int | None

    def carrier(self, began_with: str = ENGINES[0]) -> Carrier:
        """Return the engine.

        Raises:
            FedLeaseError: there is no such engine, or something is said that it does not take.
        """
        name = self.engine or began_with
        if name not in ENGINES:
            raise FedLeaseError(f"there is no engine {name!r}; there are: {', '.join(ENGINES)}")
        if name == "ray":
            from fedlease.deploy.on_ray import OnRay

            return OnRay(self.address, self.cpus)
        for option, said in (("--ray-address", self.address), ("--ray-cpus", self.cpus)):
            if said is not None:
                raise FedLeaseError(f"{option} goes with --engine ray alone")
        from fedlease.experiments.engine import OneProcess

        return OneProcess()

    def goes_on(self, folder: Path) -> Carrier:
        """Return the engine to go on with a run: the one it began with unless another is asked for.

        Raises:
            FedLeaseError: not a run, or one over sites of other organisations.
        """
        from fedlease.experiments.reopen import check_here
        from fedlease.experiments.store import Store

        resolved = Store(folder).resolved()
        check_here(resolved, folder)
        return self.carrier(str(resolved.get("engine", ENGINES[0])))


def cleaned_up(carrier: Carrier) -> AbstractContextManager[None]:
    """Let an engine that starts processes end them, however this process is asked to end."""
    return nullcontext() if carrier.name == ENGINES[0] else ended_as_by_ctrl_c()


@contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """Leave by the same way when a service manager or a closed terminal ends this process."""

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise KeyboardInterrupt

    ends = (signal.SIGTERM, signal.SIGHUP)
    asked = [number for number in ends if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores one
    before = {number: signal.signal(number, stop) for number in asked}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
