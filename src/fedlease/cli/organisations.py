"""``fedlease deploy`` and ``fedlease site``: a federation over several organisations, with Flower."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from fedlease.cli.engines import ended_as_by_ctrl_c
from fedlease.cli.screen import console
from fedlease.core.errors import FedLeaseError

Spec = Annotated[Path, typer.Argument(help="A TOML specification.", metavar="SPEC.toml")]


def deploy(
    spec: Spec,
    sites: Annotated[
        int | None, typer.Option(min=2, help="So many clients, taken from every entry in turn; else all.")
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="Encrypted, and only nodes of registered keys.")] = False,
    out: Annotated[Path | None, typer.Option(help="The folder to make, or to go on in.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key: method.rank=8", metavar="KEY=VALUE")
    ] = None,
) -> None:
    """Try a federation over Flower on this machine: a server and sites, each a process of its own.

    The same command goes on with a run that was stopped.
    """
    _flower_is_there()
    from fedlease.deploy.trial import deploy as go
    from fedlease.deploy.trial_spec import for_sites
    from fedlease.experiments.run import default_name
    from fedlease.experiments.spec import read_spec
    from fedlease.report.summary import run_report

    asked = read_spec(spec, set_ or ())
    asked = asked if sites is None else for_sites(asked, sites)
    folder = out if out is not None else Path("runs") / f"{default_name(asked)}-flower"
    screen = console()

    def said(line: str) -> None:
        screen.print(line, highlight=False, soft_wrap=True)

    with ended_as_by_ctrl_c():
        run = go(asked, spec.resolve().parent, folder, tls=tls, said=said)
    screen.print(run_report(run.record))
    said(f"run folder: {run.folder}; what each site holds: {folder / 'sites'}")


def site(
    config: Annotated[Path, typer.Option("--config", help="The site.toml of this organisation.")],
    only_say: Annotated[bool, typer.Option("--only-say", help="Say what would leave, and stop.")] = False,
    key: Annotated[Path | None, typer.Option(help="Make a key of this name, and stop.")] = None,
) -> None:
    """Take part in a federation: say what leaves this site, then connect to the server and work."""
    _flower_is_there()
    from fedlease.core.files import make_folder
    from fedlease.deploy.keys import write_site_key
    from fedlease.deploy.processes import Processes, environment
    from fedlease.deploy.site import sockets, start_site
    from fedlease.deploy.site_config import read_site
    from fedlease.deploy.statement import said
    from fedlease.experiments.lock import lock

    screen = console()
    if key is not None:
        if key.exists():
            raise FedLeaseError(f"{key} is there already: a key is never replaced")
        public = write_site_key(key)
        screen.print(f"{key} stays here; {public} goes to the server's operator", soft_wrap=True)
        return
    known = read_site(config)
    for line in said(known):
        screen.print(line, highlight=False, soft_wrap=True)
    if only_say:
        return
    rows = known.rows()  # what is wrong with them is said now, not at the first message
    screen.print(f"{len(rows.train)} training and {len(rows.test)} test rows", highlight=False)
    started = Processes(known.state / "logs", environment(known.state / "flower"))
    make_folder(known.state)
    with lock(known.state, "this site's state"), ended_as_by_ctrl_c(), sockets() as at, started as processes:
        start_site(processes, known, config, at)
        screen.print(f"working; output goes to {processes.logs}", highlight=False, soft_wrap=True)
        while True:
            processes.check()
            time.sleep(1.0)


def _flower_is_there() -> None:
    if find_spec("flwr") is None:
        raise FedLeaseError("Flower is not installed: pip install 'fedlease[flower]'")
