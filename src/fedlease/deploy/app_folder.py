"""The Flower app of a run: a folder that only names the apps of the installed fedlease."""

from __future__ import annotations

import json
from pathlib import Path

from fedlease import __version__
from fedlease.core.files import make_folder, write_bytes

PROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "fedlease-app"
version = "{version}"
description = "fedlease over Flower"
license = "Apache-2.0"
dependencies = []

[tool.hatch.build.targets.wheel]
packages = ["fedlease_app"]

[tool.flwr.app]
publisher = "fedlease"

[tool.flwr.app.components]
serverapp = "fedlease_app.server:app"
clientapp = "fedlease_app.client:app"

[tool.flwr.app.config]
spec = {spec}
out = {out}
"""


def write_app(folder: Path, spec: Path, out: Path) -> Path:
    """Write the app that ``flwr run`` submits; return its folder.

    Args:
        folder: to make.
        spec: the specification, where the SuperLink runs.
        out: the folder of the run, there too.
    """
    package = folder / "fedlease_app"
    make_folder(package)
    told = PROJECT.format(version=__version__, spec=_quoted(spec), out=_quoted(out))
    write_bytes(folder / "pyproject.toml", told.encode())
    write_bytes(package / "__init__.py", b'"""The apps of the installed fedlease."""\n')
    for side in ("server", "client"):
        lines = f"from fedlease.deploy.{side}_app import app as installed\n\napp = installed\n"
        write_bytes(package / f"{side}.py", lines.encode())  # Flower wants to see an assignment
    return folder


def write_connection(home: Path, address: str, certificate: Path | None) -> None:
    """Write Flower's ``config.toml``: the SuperLink that ``flwr`` commands mean."""
    make_folder(home)
    way = "insecure = true" if certificate is None else f"root-certificates = {_quoted(certificate)}"
    told = f'[superlink]\ndefault = "fedlease"\n\n[superlink.fedlease]\naddress = "{address}"\n{way}\n'
    write_bytes(home / "config.toml", told.encode())


def _quoted(path: Path) -> str:
    return json.dumps(str(path.resolve()))
