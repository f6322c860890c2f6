"""A folder where the commands of the pages work: small runs, rows and adapters in the place of large ones."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from pages import ROOT, blocks

import fedlease

TASKS = {"sst2": "tone", "qnli": "answers", "mrpc": "paraphrase", "qqp": "requests"}
"""A made-up task in the place of each of GLUE's."""

METHODS: dict[str, dict[str, Any]] = {
    "fedit": {"name": "fedit", "rank": 4},
    "fedlease": {"name": "fedlease", "rank": 2},
    "top-1": {"name": "fedlease", "rank": 2, "top_k": 1},
    "local": {"name": "local_only", "rank": 2},
}


@pytest.fixture(scope="session")
def small(tiny: Path) -> dict[str, Any]:
    """examples/glue.toml on the tiny model, made-up texts, and few rows and rounds."""
    spec = tomllib.loads((ROOT / "examples" / "glue.toml").read_text())
    few = {"count": 2, "train_rows": 8, "test_rows": 4}
    return {
        **spec,
        "rounds": 4,
        "model": {"name": str(tiny), "threads": 1, "precision": "float32", "max_length": 16},
        "method": METHODS["fedlease"],
        "training": {**spec["training"], "batch_size": 8, "epochs": 1},
        "clients": [{**client, **few, "data": TASKS[client["data"]]} for client in spec["clients"]],
    }


@pytest.fixture(scope="session")
def trained(small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``runs`` of several methods and ``adapters`` of clients that trained alone."""
    folder = tmp_path_factory.mktemp("trained")
    for name, method in METHODS.items():
        run = fedlease.run({**small, "method": method}, folder / "runs" / name, memory=folder / "memory")
    for name, client in zip("abcd", ("sst2-0", "sst2-1", "qnli-0", "qnli-1"), strict=True):
        shutil.copytree(run.adapter(client), folder / "adapters" / name)
    return folder


@pytest.fixture
def world(
    trained: Path, small: dict[str, Any], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """Make the folder that a page's commands are called in, and go there."""

    def make(page: str) -> Path:
        here = tmp_path / "here"
        shutil.copytree(trained / "adapters", here / "adapters")
        if page != "README.md":  # whose reader starts with nothing
            shutil.copytree(trained / "runs", here / "runs")
        (here / "examples").mkdir()
        (here / "examples" / "glue.toml").write_text(tomli_w.dumps(small))
        rows = [{"text": f"the parcel came {n} days late", "label": n % 2} for n in range(8)]
        told = [
            {**row, "sentence": row["text"], "label": ("negative", "positive")[row["label"]]} for row in rows
        ]
        for name in ("rows", "new"):
            (here / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
        (here / "new.csv").write_text("mail,class\n" + "".join(f"{r['text']},{r['label']}\n" for r in rows))
        if page == "docs/deploying.md":
            _site(here, small, tiny)
        if page == "docs/results.md":
            (here / "results").symlink_to(ROOT / "results")
        monkeypatch.chdir(here)
        monkeypatch.delenv("FEDLEASE_DATA", raising=False)
        return here

    return make


def _site(here: Path, small: dict[str, Any], tiny: Path) -> None:
    """What the page on organisations takes as given: site.toml as it stands there, its rows, its model."""
    (written,) = (block for block in blocks("toml", "docs/deploying.md") if "[server]" in block.text)
    (here / "site.toml").write_text(written.text)
    shutil.copytree(tiny, here / "models" / "minilm")
    rows = "".join(f"hello,transfer number {n},{('fine', 'fraud')[n % 2]}\n" for n in range(20))
    (here / "bank.csv").write_text("subject,body,class\n" + rows)
    bank = {"name": "bank", **tomllib.loads(written.text)["data"]}
    (here / "spec.toml").write_text(tomli_w.dumps({**small, "clients": [*small["clients"], bank]}))
