"""A federation of organisations on one machine, for a trial: its server, its sites, and their ends."""

from __future__ import annotations

import math
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from fedlease.core.errors import FedLeaseError
from fedlease.core.files import make_folder, read_json, write_bytes
from fedlease.deploy.app_folder import write_app, write_connection
from fedlease.deploy.keys import write_certificates, write_site_key
from fedlease.deploy.processes import Processes, command, environment, free_ports, last_line
from fedlease.deploy.site import LOCAL, sockets, start_site
from fedlease.deploy.site_config import read_site
from fedlease.deploy.trial_lines import left_out, lines
from fedlease.deploy.trial_spec import write_spec
from fedlease.experiments.results import Run
from fedlease.experiments.spec import Spec, read_spec

LOOK = 0.5
"""Seconds between two looks at how far the run is."""

START = 120.0
"""Seconds that Flower's server has to be there: it imports much."""

Said = Callable[[str], None]
"""Who is told how it goes, line by line."""


def quiet(line: str) -> None:
    """Tell nobody."""


@dataclass
class Trial:
    """A server and its sites in a folder, as processes of this machine that talk over loopback.

    ::

        spec.toml, run/       the specification, and the run's folder
        sites/NAME/           site.toml and what the site keeps, as an organisation would have it
        certificates/, keys/  with TLS: an authority, the server's certificate, a key for every site
        logs/, flower/, app/  output, and what Flower needs

    Attributes:
        folder: of all this.
        tls: encrypt, and let in only nodes whose keys are registered.
        said: told how it goes.
        patience: seconds in which something must come of the run, a round or its end.
        port: of the server.
    """

    folder: Path
    tls: bool = False
    said: Said = quiet
    patience: float = math.inf
    port: int = field(default_factory=lambda: free_ports(1)[0])

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()

    @property
    def home(self) -> Path:
        """The folder of Flower's own files."""
        return self.folder / "flower"

    @property
    def out(self) -> Path:
        """The run's folder."""
        return self.folder / "run"

    @property
    def authority(self) -> Path | None:
        """The certificate that the server's is checked against."""
        return self.folder / "certificates" / "ca.crt" if self.tls else None

    def processes(self) -> Processes:
        """An empty set of processes for this trial."""
        return Processes(self.folder / "logs", environment(self.home))

    def prepare(self, spec: Spec, beside: Path) -> Spec:
        """Write all that server and sites need, or find it there from an earlier start; return the spec.

        Raises:
            FedLeaseError: something else is in the folder, or it cannot be made.
        """
        path = self.folder / "spec.toml"
        if self.folder.is_file():
            raise FedLeaseError(f"{self.folder} is a file: choose another --out")
        if not path.is_file() and self.folder.is_dir() and any(self.folder.iterdir()):
            raise FedLeaseError(f"{self.folder} already exists and is not empty: choose another --out")
        make_folder(self.folder)
        if path.is_file():
            known = read_spec(path)
            write_spec(spec, beside, self.folder / ".asked.toml")
            asked = read_spec(self.folder / ".asked.toml")
            (self.folder / ".asked.toml").unlink()
            if known != asked.model_copy(update={"name": known.name}):
                raise FedLeaseError(
                    f"{self.folder} holds a trial of another specification: choose another --out"
                )
        else:
            write_spec(spec.model_copy(update={"name": spec.name}), beside, path)
        if self.tls and not (self.folder / "certificates" / "server.key").is_file():
            write_certificates(self.folder / "certificates", ["localhost", LOCAL])
        write_connection(self.home, f"{LOCAL}:{self.port}", self.authority)
        write_app(self.folder / "app", path, self.out)
        for name in spec.ids:
            self._prepare_site(name)
        return spec

    def _prepare_site(self, name: str) -> None:
        folder = self.folder / "sites" / name
        make_folder(folder)
        server: dict[str, Any] = {"address": f"{LOCAL}:{self.port}"}
        if self.tls:
            if not self._key(f"{name}.pub").is_file():  # written last
                write_site_key(self._key(name))
            server |= {"certificate": str(self.authority), "key": str(self._key(name))}
        told = {"name": name, "spec": str(self.folder / "spec.toml"), "server": server}
        write_bytes(folder / "site.toml", tomli_w.dumps(told).encode())

    def _key(self, name: str) -> Path:
        return self.folder / "keys" / name

    def start_server(self, processes: Processes) -> None:
        """Start the SuperLink and wait until it listens.

        Raises:
            FedLeaseError: it ended, or is not there in time.
        """
        arguments = [command("flower-superlink"), "--host", LOCAL, "--port", str(self.port)]
        arguments.append("--disable-runtime-dependency-installation")
        if self.tls:
            certificates = self.folder / "certificates"
            arguments += ["--ssl-ca-certfile", str(certificates / "ca.crt")]
            arguments += ["--ssl-certfile", str(certificates / "server.crt")]
            arguments += ["--ssl-keyfile", str(certificates / "server.key"), "--enable-supernode-auth"]
        else:
            arguments.append("--insecure")
        processes.start("superlink", arguments)
        end = time.monotonic() + START
        while not _listens(self.port):
            processes.check()
            if time.monotonic() > end:
                raise FedLeaseError(f"the SuperLink does not listen on port {self.port} after {START:g} s")
            time.sleep(0.1)
        self.said(f"server on {LOCAL}:{self.port}{' with TLS' if self.tls else ''}")

    def register(self, processes: Processes, name: str) -> None:
        """Let the server know a site's key, under the site's name.

        Raises:
            FedLeaseError: it would not take it.
        """
        arguments = [command("flwr"), "supernode", "register", f"{self._key(name)}.pub"]
        log = self.folder / "logs" / "register.log"
        with log.open("ab") as file:
            try:
                subprocess.run(
                    [*arguments, "fedlease", "--name", name],
                    env=dict(processes.environment),
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    check=True,
                    timeout=START,
                )
            except subprocess.SubprocessError as error:
                raise FedLeaseError(f"the key of {name} could not be registered: {last_line(log)}") from error

    def start_site(self, processes: Processes, name: str, at: Path) -> None:
        """Start a site; ``at`` is the folder of its socket."""
        path = self.folder / "sites" / name / "site.toml"
        start_site(processes, read_site(path), path, at)

    def submit(self, processes: Processes) -> None:
        """Start the run, or go on with it from its last checkpoint."""
        arguments = [command("flwr"), "run", str(self.folder / "app"), "fedlease", "--stream"]
        (self.folder / "logs" / "run.log").unlink(missing_ok=True)
        processes.start("run", arguments)

    def wait(self, processes: Processes) -> Run:
        """Tell of every round until the run is complete.

        Raises:
            FedLeaseError: the run failed; the reason is said.
        """
        told, since = len(self._rounds()), time.monotonic()
        while True:
            over = processes.running["run"].poll() is not None
            rounds = self._rounds()
            for entry in rounds[told:]:
                for line in lines(entry):
                    self.said(line)
            if len(rounds) > told:
                told, since = len(rounds), time.monotonic()
            if self._status() == "complete":
                processes.end("run")
                for line in left_out(self._record()):
                    self.said(line)
                return Run(self.out)
            if over:
                raise FedLeaseError(f"the run ended: {last_line(self.folder / 'logs' / 'run.log')}")
            processes.check()
            if time.monotonic() - since > self.patience:
                raise FedLeaseError(
                    f"nothing came of the run in {self.patience:g} s; {processes.logs} says more"
                )
            time.sleep(LOOK)

    def _record(self) -> dict[str, Any]:
        path = self.out / "record.json"
        return dict(read_json(path)) if path.is_file() else {}

    def _rounds(self) -> list[dict[str, Any]]:
        return list(self._record().get("rounds", []))

    def _status(self) -> str:
        return str(self._record().get("status", ""))


def deploy(
    spec: Spec,
    beside: Path,
    folder: Path,
    *,
    tls: bool = False,
    said: Said = quiet,
    patience: float = math.inf,
) -> Run:
    """Run a federation over Flower on this machine, every site a process; go on where an earlier one stopped.

    Every process that is started is ended, whatever happens.

    Raises:
        FedLeaseError: what the user can put right, in one line.
    """
    trial = Trial(folder, tls, said, patience)
    trial.prepare(spec, beside)
    with sockets() as at, trial.processes() as processes:
        trial.start_server(processes)
        for name in spec.ids:
            if tls:
                trial.register(processes, name)
            trial.start_site(processes, name, at)
        said(f"{len(spec.ids)} sites started")
        trial.submit(processes)
        return trial.wait(processes)


def _listens(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(1.0)
        return one.connect_ex((LOCAL, port)) == 0
