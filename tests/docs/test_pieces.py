"""The pieces of Python, TOML, JSON and unit files on the pages: run, or read by what would read them."""

from __future__ import annotations

import configparser
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pages import PAGES, Block, blocks

from fedlease.deploy.site_config import SiteTable
from fedlease.experiments.spec import Spec, make_spec

KINDS = {"sh", "python", "toml", "json", "ini", "dockerfile", "text"}
"""What fenced blocks hold; text is output, and the container file is not built here: it downloads."""

NAMES = {"sentence": "text"}
"""Columns of the pages' data, and what the made-up texts call them."""

GROUP = {"name": "some", "data": "tone", "count": 2}
WRITERS = {"name": "some", "train": "some.jsonl", "prompt": ["ask"], "answer": "say", "count": 2}


@pytest.mark.parametrize("page", sorted({block.page for block in blocks("python")}))
def test_the_python_of_a_page_runs(page: str, world: Callable[[str], Path], tiny: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    world(page)
    names: dict[str, Any] = {"base": AutoModelForSequenceClassification.from_pretrained(tiny)}
    for block in blocks("python", page):
        exec(compile(block.text, str(block), "exec"), names)


def documents(block: Block) -> list[dict[str, Any]]:
    """The TOML of a block; lines that show the same key in several ways are a document each."""
    try:
        return [tomllib.loads(block.text)]
    except tomllib.TOMLDecodeError:
        lines = [line for line in block.text.splitlines() if line.strip()]
        assert {line.partition("=")[0].strip() for line in lines} == {"split"}, block
        return [tomllib.loads(line) for line in lines]


def completed(content: dict[str, Any]) -> dict[str, Any]:
    """A specification out of a piece of one."""
    if "split" in content:
        split = content["split"]
        drawn = {} if "rows" in split else {"train_rows": 100}
        return {"clients": [{**GROUP, **drawn, "count": len(split.get("rows", "12")), "split": split}]}
    generates = content.get("model", {}).get("name") == "smollm2"
    clients = content.get("clients", [WRITERS if generates else GROUP])
    if len(clients) == 1 and "count" not in clients[0]:
        clients = [*clients, GROUP]
    return {**content, "clients": clients}


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_toml_is_what_fedlease_reads(block: Block) -> None:
    for content in documents(block):
        if "server" in content:
            site = SiteTable.model_validate(content)
            make_spec({"clients": [GROUP, {"name": site.name, **(site.data or {})}]})
        else:
            known = {*Spec.model_fields, "split"}
            assert set(content) <= known, block
            make_spec(completed(content))


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_is_json(block: Block) -> None:
    for line in block.text.splitlines():
        assert json.loads(line)


@pytest.mark.parametrize("block", blocks("ini"), ids=str)
def test_a_unit_file_starts_a_command_that_exists(block: Block) -> None:
    unit = configparser.ConfigParser()
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(block.text)
    program, *words = unit["Service"]["ExecStart"].split()
    assert program.endswith("/fedlease")
    assert words == ["site", "--config", "site.toml"]


def test_every_block_says_what_it_holds() -> None:
    for page in PAGES:
        text = (Path(__file__).resolve().parents[2] / page).read_text()
        fences = [line for line in text.splitlines() if line.startswith("```")]
        assert {fence[3:] for fence in fences[::2]} <= KINDS, page
        assert {fence[3:] for fence in fences[1::2]} <= {""}, page
