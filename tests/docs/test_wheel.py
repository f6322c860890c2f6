"""The wheel holds the package and nothing else, and runs the demonstration where only it is installed.

Installing torch anew would take minutes and gigabytes. The environment of the test has fedlease from the
wheel alone; the libraries it needs are those of the environment that runs the tests, put behind it by a
``.pth`` file. Files of that kind are not followed from there, so no editable install of fedlease is seen.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from pages import ROOT

import fedlease

pytest.importorskip("hatchling", reason="the wheel is built by fedlease[dev]")


def ran(*command: object, cwd: Path, **changes: str) -> str:
    """Run a command that knows nothing of the source tree or of real data; return what it printed."""
    apart = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "FEDLEASE_DATA")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**apart, "COLUMNS": "160", "HF_HUB_OFFLINE": "1", **changes},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this tree."""
    folder = tmp_path_factory.mktemp("dist")
    path = os.environ.get("PYTHONPATH", "")
    ran(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT, PYTHONPATH=path)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    source = ROOT / "src"
    files = {
        path.relative_to(source).as_posix() for path in (source / "fedlease").rglob("*") if path.is_file()
    }
    expected = {name for name in files if "__pycache__" not in name}
    assert {"fedlease/py.typed", "fedlease/report/page/page.css"} <= expected
    with zipfile.ZipFile(wheel) as content:
        about = f"fedlease-{fedlease.__version__}.dist-info"
        names = set(content.namelist())
        assert {name for name in names if not name.startswith(about)} == expected
        assert f"{about}/licenses/LICENSE" in names
        assert "fedlease = fedlease.cli:main" in content.read(f"{about}/entry_points.txt").decode()
        told = message_from_bytes(content.read(f"{about}/METADATA"))
    assert told["Version"] == fedlease.__version__
    assert {"docs", "flower", "generation", "quantization"} <= set(told.get_all("Provides-Extra", []))


@pytest.mark.slow
@pytest.mark.usefixtures("minilm")
def test_the_wheel_alone_runs_the_demonstration(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "env"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python]
    ran(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    packages = Path(
        ran(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    )
    behind = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (packages / "libraries-of-the-tests.pth").write_text("\n".join(behind) + "\n")

    where = ran(python, "-c", "import fedlease; print(fedlease.__file__)", cwd=tmp_path).strip()
    assert Path(where) == packages / "fedlease" / "__init__.py"
    shown = ran(home / "bin" / "fedlease", "demo", "--quick", cwd=tmp_path, OMP_NUM_THREADS="1")
    for words in ("small generated text tasks", "Experts", "fedit", "fedlease", "average"):
        assert words in shown
    for made in ("rounds.png", "allocation.png", "fedlease/record.json", "fedit/record.json"):
        assert (tmp_path / "runs" / "demo" / made).is_file()
