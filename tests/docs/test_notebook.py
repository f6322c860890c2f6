"""examples/federation.ipynb runs from its first cell to its last.

Its cells are executed here as a notebook would, without a kernel: Jupyter's packages would be two dozen more
to install, for one file. Lines ``!fedlease ...`` go to the command line, and `Image` only looks whether the
picture is there.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pages import ROOT

NOTEBOOK = ROOT / "examples" / "federation.ipynb"


def cells(kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == kind]


def test_outputs_are_stripped() -> None:
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells("code"))


@pytest.mark.slow
@pytest.mark.usefixtures("minilm")
def test_the_notebook_runs(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    def image(path: str) -> None:
        shown.append(path)
        assert Path(path).read_bytes().startswith(b"\x89PNG")

    def called(line: str) -> None:
        words = shlex.split(line)
        assert words[0] == "fedlease"
        code, _, complaint = command(*words[1:])
        assert code == 0, f"{line}: {complaint}"

    ipython, display = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.version_info = (9, 0)  # type: ignore[attr-defined]  # matplotlib looks
    display.Image = image  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDLEASE_DATA", raising=False)

    names: dict[str, Any] = {"called": called}
    for number, cell in enumerate(cells("code")):
        lines = "".join(cell["source"]).splitlines()
        code = [f"called({line[1:]!r})" if line.startswith("!") else line for line in lines]
        exec(compile("\n".join(code), f"cell {number}", "exec"), names)

    experts = [set(names["allocation"].members(j)) for j in range(names["allocation"].num_experts)]
    assert {"bank-north", "bank-south"} in experts  # nobody said so
    assert list(names["table"].columns) == ["FedIT", "FedLEASE"]
    assert names["table"]["FedLEASE"].mean() > 0.5
    assert shown == ["rounds.png"]
    assert "<html" in (tmp_path / "report.html").read_text()
