"""What the guide for real machines gives: units and images that work, and pieces that fit each other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from cryptography import x509
from typer.testing import CliRunner

from fedlease.cli.app import app
from fedlease.experiments.exchange import ExchangeSpec

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "deploying.md"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)


def block(kind: str, part: str) -> str:
    (found,) = (text for text in blocks(kind) if part in text)
    return found


def python(part: str) -> str:
    """The program of a ``python -c '...'`` in a shell block."""
    (found,) = re.findall(r"python -c '(.*?)'\n", block("sh", part), re.DOTALL)
    return found


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not there")
    unit = block("ini", "[Service]")
    (command,) = re.findall(r"^ExecStart=(\S+) ", unit, re.MULTILINE)
    assert command.endswith("/bin/fedlease")
    path = tmp_path / "fedlease-site.service"
    path.write_text(unit.replace(command, sys.executable))  # it looks whether the program is there
    done = subprocess.run(
        [verify, "verify", str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    about = [line for line in done.stderr.splitlines() if path.name in line]
    assert (done.returncode, about) == (0, [])
    path.write_text(path.read_text().replace("Restart=always", "Restart=sometimes"))
    wrong = subprocess.run(
        [verify, "verify", str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert "sometimes" in wrong.stderr  # it would have told


def test_the_image_installs_what_there_is_and_runs_a_command_that_there_is() -> None:
    lines = block("dockerfile", "ENTRYPOINT").replace("\\\n", " ").splitlines()
    steps = [line.partition(" ")[::2] for line in lines if line]
    assert steps[0][0] == "FROM"
    assert {step for step, _ in steps} <= {"FROM", "RUN", "USER", "WORKDIR", "ENTRYPOINT"}
    (install,) = (rest for step, rest in steps if step == "RUN" and "pip install" in rest)
    ((extras),) = re.findall(r"fedlease\[([a-z,]+)\]", install)
    known = tomllib.loads((GUIDE.parents[1] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert set(extras.split(",")) <= set(known)
    entry = json.loads(dict(steps)["ENTRYPOINT"])
    assert entry[0] == "fedlease"
    assert CliRunner().invoke(app, [*entry[1:], "--help"]).exit_code == 0
    user = dict(steps)["USER"]
    assert f"useradd --create-home {user}" in install


def test_certificate_addresses_and_port_fit_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(python("write_certificates"), {})
    certificate = x509.load_pem_x509_certificate((tmp_path / "certificates/server.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    site = tomllib.loads(block("toml", "[server]"))
    host, _, port = site["server"]["address"].partition(":")
    assert host in names.get_values_for_type(x509.DNSName)
    (tmp_path / "spec.toml").write_text("")
    exec(python("write_connection"), {})
    connection = tomllib.loads((tmp_path / "flower/config.toml").read_text())["superlink"]["fedlease"]
    assert connection["address"] == f"{host}:{port}"
    assert Path(connection["root-certificates"]).is_file()
    told = tomllib.loads((tmp_path / "app/pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    assert told == {"spec": str(tmp_path / "spec.toml"), "out": str(tmp_path / "runs/first")}
    server = block("sh", "flower-superlink")
    assert f"--port {port} " in server
    assert f"one TCP port, {port} here" in GUIDE.read_text()
    for option in ("--ssl-ca-certfile", "--ssl-certfile", "--ssl-keyfile"):
        (path,) = re.findall(rf"{option} (\S+)", server)
        assert (tmp_path / path).is_file()
    assert f"--name {site['name']}\n" in server
    assert f"--key {site['server']['key']} " in block("sh", "--key")


def test_the_exchange_that_is_shown_is_the_default() -> None:
    shown = tomllib.loads(block("toml", "[exchange]"))["exchange"]
    assert ExchangeSpec.model_validate(shown) == ExchangeSpec()
    assert set(shown) == set(ExchangeSpec.model_fields)
