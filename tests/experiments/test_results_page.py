"""The page of results is filled with whole tables alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fedlease.experiments.manifest import Manifest, Place, write_manifest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks/results_page.py"
PAGE = "Words.\n\n<!-- table8 -->\nNot run yet.\n<!-- end -->\n\nMore words.\n"


def test_a_table_that_lacks_a_run_is_left_as_it_is(tmp_path: Path) -> None:
    lacking = Place("M_max = 2", "", 0, "../store/fedlease-0-none")
    write_manifest(tmp_path / "runs/table8-small", Manifest("table8", "small", "Upper bound", [lacking]))
    page = tmp_path / "results.md"
    page.write_text(PAGE)
    command = [sys.executable, str(SCRIPT), str(tmp_path / "runs"), f"--page={page}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "table8 is left as it is: 0 of 1 runs are complete\n"
    assert page.read_text() == PAGE


def test_the_records_that_are_kept_fill_the_tables_of_the_page(tmp_path: Path) -> None:
    root = SCRIPT.parents[1]
    page = tmp_path / "results.md"
    shown = (root / "docs/results.md").read_text()
    page.write_text(shown)
    command = [sys.executable, str(SCRIPT), str(root / "results"), f"--page={page}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert page.read_text() == shown  # what stands there is what the records say
