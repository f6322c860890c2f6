"""What a site says will leave it is what leaves it; keys, certificates, processes; the commands."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key
from fake_sites import Sites, toml
from typer.testing import CliRunner

from fedlease.algorithms.registry import methods
from fedlease.cli.app import app
from fedlease.core.errors import FedLeaseError
from fedlease.deploy.keys import write_certificates, write_site_key
from fedlease.deploy.processes import Processes, environment, free_ports, last_line
from fedlease.deploy.site import sockets, start_site
from fedlease.deploy.site_config import ServerTable, SiteConfig, SiteTable, read_site
from fedlease.deploy.spent import Spent
from fedlease.deploy.statement import leaving, leaving_of
from fedlease.deploy.trial_spec import for_sites, write_spec
from fedlease.engines.flower_records import FAILED, LACKS
from fedlease.experiments.lock import lock
from fedlease.experiments.spec import make_spec, read_spec

pytestmark = pytest.mark.usefixtures("workers_here")


def test_what_is_said_to_leave_is_what_leaves(spec_of: Any, tmp_path: Path) -> None:
    sites = Sites(tmp_path / "sites", spec_of(rounds=2, method={"name": "fedit", "rank": 2}))
    stated = {one.task: one for one in leaving(read_site(sites.folder / "tone-0/site.toml"))}
    sites.serve(tmp_path / "run")
    lines = [json.loads(line) for line in (sites.folder / "tone-0/state/sent.jsonl").read_text().splitlines()]
    (end,) = [line for line in lines if line["task"] == "finish"]
    assert (end["tensors"], set(end["facts"])) == (
        {},
        {"cut_train", "cut_test"},
    )  # and routing, with a router
    for task in ("hello", "train", "score"):
        sent = [line for line in lines if line["task"] == task]
        assert stated[task].times == len(sent)
        parts: dict[tuple[str, tuple[int, ...], str], int] = {}
        for name, tensor in sent[0]["tensors"].items():
            key = name.rpartition(".")[2], tuple(tensor["shape"]), tensor["dtype"]
            parts[key] = parts.get(key, 0) + 1
        assert stated[task].parts == parts
        if task != "score":  # its facts are metrics, which the task names
            assert set(stated[task].facts) == set(sent[0]["facts"])
    assert abs(stated["train"].bytes - next(x["bytes"] for x in lines if x["task"] == "train")) <= 2


@pytest.mark.parametrize("method", list(methods()))
def test_every_method_can_be_stated(method: str, spec_of: Any) -> None:
    spec = make_spec(spec_of(method={"name": method, "rank": 2}, rounds=5))
    stated = leaving_of(spec, {"a.query": (8, 4), "a.value": (6, 4)}, "tone-0")
    trains = [one for one in stated if one.task not in ("hello", "score") and one.parts]
    assert bool(trains) == (method != "local_only")
    assert {kind.removeprefix("first_") for one in trains for kind, *_ in one.parts} <= {"A", "B", "router"}


def test_certificates_are_for_the_hosts_and_keys_for_the_owner(tmp_path: Path) -> None:
    write_certificates(tmp_path, ["localhost", "127.0.0.1"])
    authority, server = (
        x509.load_pem_x509_certificate((tmp_path / f"{name}.crt").read_bytes()) for name in ("ca", "server")
    )
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    public = write_site_key(tmp_path / "bank")
    private = load_ssh_private_key((tmp_path / "bank").read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert private.public_key() == load_ssh_public_key(public.read_bytes())
    for name in ("ca.key", "server.key", "bank"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    before = (tmp_path / "ca.key").read_bytes()
    with pytest.raises(FedLeaseError, match="holds certificates already"):
        write_certificates(tmp_path, ["localhost"])
    assert (tmp_path / "ca.key").read_bytes() == before
    (tmp_path / "server.key").unlink()  # as if it had been killed in between: no site has them yet
    write_certificates(tmp_path, ["localhost"])
    assert (tmp_path / "ca.key").read_bytes() != before


def test_a_trial_of_fewer_sites_takes_clients_of_every_entry(spec_of: Any, tmp_path: Path) -> None:
    spec = make_spec(spec_of())
    assert for_sites(spec, 4) == spec
    assert for_sites(spec, 2).ids == ("tone-0", "answers-0")
    assert for_sites(spec, 3).ids == ("tone-0", "tone-1", "answers-0")
    with pytest.raises(FedLeaseError, match="--sites is 5, and the specification has 4 clients"):
        for_sites(spec, 5)
    write_spec(spec, tmp_path, tmp_path / "spec.toml")
    assert read_spec(tmp_path / "spec.toml") == spec


def test_sites_of_long_names_that_begin_alike_have_sockets_of_their_own(spec_of: Any, tmp_path: Path) -> None:
    started: dict[str, list[str]] = {}

    class Noted(Processes):
        def start(self, name: str, command: Any, *_: Any, **__: Any) -> Any:
            started[name] = list(command)

    names = [f"{'the-same-' * 30}{end}" for end in ("one", "two")]
    with sockets() as at:
        for name in names:
            table = SiteTable(name=name, spec="spec.toml", server=ServerTable(address="here:1"))
            config = SiteConfig(table, tmp_path, make_spec(spec_of()))
            start_site(Noted(tmp_path, {}), config, tmp_path / "site.toml", at)
    addresses = [started[f"{name}.worker"][-1] for name in names]
    assert addresses[0] != addresses[1]
    for name, address in zip(names, addresses, strict=True):
        assert f"worker={json.dumps(address)}" in started[name]
        assert len(address) < 100


def test_processes_are_ended_with_all_that_they_started(tmp_path: Path) -> None:
    sleeper = "[sys.executable, '-c', 'import time; time.sleep(99)']"
    child = f"import subprocess, sys, time; subprocess.Popen({sleeper})"
    with Processes(tmp_path, environment(tmp_path)) as processes:
        one = processes.start("one", [sys.executable, "-c", f"{child}; time.sleep(99)"])
        end = time.monotonic() + 30
        while len(family := [one.pid, *(c.pid for c in psutil.Process(one.pid).children())]) < 2:
            assert time.monotonic() < end
            time.sleep(0.05)
    assert not any(psutil.pid_exists(pid) for pid in family)


def test_those_below_a_process_that_was_killed_are_ended_too(tmp_path: Path) -> None:
    """Flower's server runs its apps in sessions of their own, so they are found by having been seen."""
    sleeper = "[sys.executable, '-c', 'import time; time.sleep(99)'], start_new_session=True"
    with Processes(tmp_path, environment(tmp_path)) as processes:
        program = f"import subprocess, sys, time; subprocess.Popen({sleeper}); time.sleep(99)"
        one = processes.start("one", [sys.executable, "-c", program])
        end = time.monotonic() + 30
        while not (below := psutil.Process(one.pid).children()):
            assert time.monotonic() < end
            time.sleep(0.05)
        processes.check()
        os.kill(one.pid, signal.SIGKILL)
        one.wait(60)
        assert below[0].is_running()
        assert below[0].status() != psutil.STATUS_ZOMBIE
    assert not below[0].is_running() or below[0].status() == psutil.STATUS_ZOMBIE


def test_processes_end_when_the_one_that_started_them_is_killed(tmp_path: Path) -> None:
    program = f"""
import sys, time
from pathlib import Path
from fedlease.deploy.processes import Processes, environment
with Processes(Path({str(tmp_path)!r}), environment(Path({str(tmp_path)!r}))) as processes:
    print(processes.start("one", [sys.executable, "-c", "import time; time.sleep(99)"]).pid, flush=True)
    time.sleep(99)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert psutil.pid_exists(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait(60)
    gone = psutil.Process(child) if psutil.pid_exists(child) else None
    assert gone is None or gone.wait(10) is not None or not gone.is_running()


def test_one_that_ended_is_said_with_its_last_words_or_started_again(tmp_path: Path) -> None:
    with Processes(tmp_path, environment(tmp_path)) as processes:
        program = [
            sys.executable,
            "-c",
            "print('fedlease: no rows'); print('Traceback'); raise SystemExit(3)",
        ]
        first = processes.start("again", program, 60.0)
        first.wait(60)
        processes.check()
        assert processes.running["again"].pid != first.pid
        processes.end("again")
        processes.start("once", program).wait(60)
        with pytest.raises(FedLeaseError, match="once ended with status 3: no rows"):
            processes.check()
    assert last_line(tmp_path / "once.log") == "no rows"


def test_free_ports_are_free_and_different() -> None:
    ports = free_ports(5)
    assert len(set(ports)) == 5


def test_the_commands_say_what_is_wrong_in_a_line(spec_of: Any, tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(toml(spec_of()))
    (tmp_path / "site.toml").write_text('name = "tone-0"\nspec = "spec.toml"\n')
    run = CliRunner()
    said = run.invoke(app, ["site", "--config", str(tmp_path / "site.toml"), "--only-say"])
    assert said.exit_code == 0, said.output
    assert "site tone-0: this leaves it in a run of spec.toml, and nothing else:" in said.output
    spent = Spent(rows=2, seconds=1.0, scored_rows=1, scored_seconds=0.5, loss=0.5)
    for value in (*spent.told(), FAILED, LACKS):  # all that may be beside an answer, or in its place
        assert value in said.output
    assert not (tmp_path / "state").exists()
    no_server = run.invoke(app, ["site", "--config", str(tmp_path / "site.toml")])
    assert isinstance(no_server.exception, FedLeaseError)
    assert "names no server: give [server] an address" in str(no_server.exception)
    with lock(tmp_path / "state"):  # as the site that is at work holds it
        second = run.invoke(app, ["site", "--config", str(tmp_path / "site.toml")])
    assert str(second.exception) == f"{tmp_path / 'state'}: another process is at this site's state"
    key = ["site", "--config", str(tmp_path / "site.toml"), "--key", str(tmp_path / "bank.key")]
    assert run.invoke(app, key).exit_code == 0
    assert "a key is never replaced" in str(run.invoke(app, key).exception)
    site = tmp_path / "site.toml"
    nowhere = run.invoke(app, ["site", "--config", str(site), "--key", str(site / "bank.key")])
    assert f"cannot make {site}: " in str(nowhere.exception)
    for out, said_of in ((site, f"{site} is a file: choose"), (site / "x", f"cannot make {site / 'x'}: ")):
        taken = run.invoke(app, ["deploy", str(tmp_path / "spec.toml"), "--out", str(out)])
        assert isinstance(taken.exception, FedLeaseError)
        assert said_of in str(taken.exception)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    taken = run.invoke(app, ["deploy", str(tmp_path / "spec.toml"), "--out", str(tmp_path / "out")])
    assert "already exists and is not empty" in str(taken.exception)
