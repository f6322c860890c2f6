"""What runs at an organisation: a worker with the model, and Flower's SuperNode, which asks it."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

from fedlease.core.errors import FedLeaseError
from fedlease.deploy.processes import Processes, command, free_ports
from fedlease.deploy.site_config import SiteConfig

LOCAL = "127.0.0.1"

AWAY = 120.0
"""Seconds in which a SuperNode that is not let in tries again: for up to a minute a server takes one that was
killed to be there still, and turns its key away."""

WORKED = 30.0
"""Seconds after which a worker that ends is started again: it could work, and something killed it."""


@contextmanager
def sockets() -> Iterator[Path]:
    """A folder that only this account can look into, with a path short enough for a Unix socket."""
    folder = Path(tempfile.mkdtemp(prefix="fedlease-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def start_site(processes: Processes, config: SiteConfig, path: Path, at: Path) -> None:
    """Start a site's worker and its SuperNode, as ``NAME.worker`` and ``NAME``.

    Args:
        processes: to start them in.
        config: of the site.
        path: of its ``site.toml``.
        at: the folder of its socket, see `sockets`.

    Raises:
        FedLeaseError: the site has no server to connect to, or Flower is not installed.
    """
    known = blake2b(config.name.encode(), digest_size=8).hexdigest()  # a path of a socket must be short
    address = at / f"{known}.socket"
    address.unlink(missing_ok=True)
    supernode = _supernode(config, address)
    work = [sys.executable, "-m", "fedlease.deploy.worker", str(path.resolve()), str(address)]
    processes.start(f"{config.name}.worker", work, lasted=WORKED)
    processes.start(config.name, supernode, AWAY)


def _supernode(config: SiteConfig, address: Path) -> list[str]:
    server = config.table.server
    if server is None:
        raise FedLeaseError(f"{config.folder / 'site.toml'} names no server: give [server] an address")
    port = config.table.port or free_ports(1)[0]
    arguments = [command("flower-supernode"), "--superlink", server.address]
    arguments += ["--host", LOCAL, "--port", str(port)]
    arguments += ["--node-config", f"worker={json.dumps(str(address))}"]
    if server.certificate is None:
        arguments.append("--insecure")
    else:
        arguments += ["--root-certificates", str((config.folder / server.certificate).resolve())]
    if server.key is not None:
        arguments += ["--auth-supernode-private-key", str((config.folder / server.key).resolve())]
    return arguments
