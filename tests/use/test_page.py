"""Every command and every piece of Python on docs/using.md does what the page says it does."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from trained import examples_of

from fedlease.experiments.results import Run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "using.md"
NAMES = {"sst2-0": "tone-0", '"sentence"': '"text"', "--rank 8": "--rank 2", "mail": "text"}
"""What the page's run has, and what the small run of the tests has in its place."""


def blocks(kind: str) -> list[str]:
    text = PAGE.read_text()
    for old, new in NAMES.items():
        text = text.replace(old, new)
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


def commands() -> list[str]:
    lines = "".join(blocks("sh")).replace("\\\n", " ").splitlines()
    return [line.partition("  #")[0].strip() for line in lines if line.strip()]


@pytest.fixture
def there(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the page takes as given: a run, rows to predict, and labelled rows."""
    shutil.copytree(run.folder, tmp_path / "runs" / "fedlease")
    examples = examples_of(run, "tone-1")
    rows = [json.dumps({"text": row.texts[0]}) for row in examples]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows) + "\n")
    names = run.record["clients"]["tone-1"]["labels"]
    new = [json.dumps({"text": row.texts[0], "label": names[row.label]}) for row in examples]
    (tmp_path / "new.jsonl").write_text("\n".join(new) + "\n")
    table = [f'"{row.texts[0]}",{row.label}' for row in examples]
    (tmp_path / "new.csv").write_text("\n".join(["text,class", *table]) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_of_the_page_works(command: Any, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hub:
        def create_repo(self, repo: str, **_: Any) -> str:
            return f"https://hub/{repo}"

        def upload_folder(self, **_: Any) -> None:
            pass

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    asked = commands()
    assert len(asked) >= 8
    for line in asked:
        words = shlex.split(line)
        assert words[0] == "fedlease"
        code, shown, complaint = command(*words[1:])
        assert code == 0, f"{line}: {complaint}"
        assert shown or (there / "predicted.jsonl").is_file()


def test_the_python_of_the_page_works(there: Path) -> None:
    pieces = blocks("python")
    assert pieces
    names: dict[str, Any] = {}
    for piece in pieces:
        exec(piece, names)
    assert {one["label"] for one in names["found"]} <= {"negative", "positive"}
