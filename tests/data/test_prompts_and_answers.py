"""Rows of prompts and answers: every way to say where they are, bad rows, and FLAN's real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from fedlease.core.errors import FedLeaseError
from fedlease.data.catalog import FLAN, GLUE, find
from fedlease.data.dealing import row_key
from fedlease.data.federation import ClientPlan, federate
from fedlease.data.sources import Example, Source, load

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " Who? "},
    {"role": "assistant", "content": "Ann."},
]
SAID = Example(("Be brief.", "Who?"), answer="Ann.", roles=("system", "user"))


def jsonl(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def problem(source: Source) -> str:
    with pytest.raises(FedLeaseError) as caught:
        load(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_prompt_columns_that_are_empty_are_left_out(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows{ending}"
    rows = [{"ask": "Add", "with": " 1 2 ", "say": "3\n"}, {"ask": "Sing", "with": "", "say": "la"}]
    if ending == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif ending == ".csv":
        path.write_text('ask,with,say\nAdd," 1 2 ","3\n"\nSing,,la\n')
    else:
        jsonl(path, *rows)
    table = load(Source(prompt=("ask", "with"), answer="say", train=str(path)))
    assert table.train == (Example(("Add", "1 2"), answer="3"), Example(("Sing",), answer="la"))
    assert (table.test, table.labels) == (None, ())


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_the_last_message_is_the_answer(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows{ending}"
    if ending == ".jsonl":
        jsonl(path, {"talk": CHAT})
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"talk": CHAT}]), path)
    assert load(Source(messages="talk", train=str(path))).train == (SAID,)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"q": "a", "a": " "}, "the answer in column 'a' is empty"),
        ({"q": "a", "a": None}, "the answer in column 'a' is empty"),
        ({"q": "a"}, "no column 'a'; there are: q"),
        ({"q": "", "a": "b"}, "the prompt in column 'q' is empty"),
        ({"q": "a", "a": 7}, "column 'a' holds int 7, not text"),
    ],
)
def test_bad_prompts_and_answers_name_their_line(tmp_path: Path, row: dict[str, Any], expected: str) -> None:
    path = jsonl(tmp_path / "x.jsonl", {"q": "fine", "a": "fine"}, row)
    assert problem(Source(prompt=("q",), answer="a", train=path)) == f"{path}:2: {expected}"


@pytest.mark.parametrize(
    ("talk", "expected"),
    [
        ("hello", "column 't' holds no list of messages, each {role, content} in texts"),
        (["hello"], "column 't' holds no list of messages, each {role, content} in texts"),
        ([{"content": "x"}, CHAT[2]], "a message in column 't' has no role"),
        ([{"role": "user"}, CHAT[2]], "the user's message in column 't' is empty"),
        (CHAT[:2], "the messages in column 't' must be a prompt and, last, the assistant's answer"),
        (CHAT[2:], "the messages in column 't' must be a prompt and, last, the assistant's answer"),
        ([], "the messages in column 't' must be a prompt and, last, the assistant's answer"),
    ],
)
def test_bad_messages_name_their_line(tmp_path: Path, talk: Any, expected: str) -> None:
    path = jsonl(tmp_path / "x.jsonl", {"t": CHAT}, {"t": talk})
    assert problem(Source(messages="t", train=path)) == f"{path}:2: {expected}"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"prompt": ("a",)}, "x.csv: name prompt and answer columns, or the column of messages"),
        ({"answer": "b"}, "x.csv: name prompt and answer columns, or the column of messages"),
        ({"prompt": ("a",), "answer": "b", "messages": "c"}, "x.csv: name prompt and answer columns, or"),
        ({"prompt": ("a",), "answer": "a"}, "x.csv: prompt and answer must be different columns"),
        ({"messages": "c", "text": ("a",)}, "x.csv: text and labels mean nothing beside prompts"),
    ],
)
def test_sources_that_make_no_sense(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(FedLeaseError) as caught:
        Source(train="x.csv", **given)
    assert str(caught.value).startswith(expected)


def test_a_named_set_that_is_nowhere_says_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert problem(find("hellaswag")) == (
        "flan/hellaswag/train.jsonl: no such file; name the folder it is under in FEDLEASE_DATA or data.root"
    )
    with pytest.raises(FedLeaseError, match=r"elsewhere/flan/.*: no such file; name the folder"):
        load(find("hellaswag"), tmp_path / "elsewhere")


def test_names_and_seeds_of_flan_are_all_different() -> None:
    assert len(FLAN) == 16
    assert not FLAN.keys() & GLUE.keys()
    assert len({source.key for source in FLAN.values()}) == 16
    assert find("flan_qnli").train == "flan/qnli/train.jsonl"


@pytest.mark.parametrize("task", list(FLAN))
def test_flan_on_real_rows(task: str, flan: Path) -> None:
    asked = [ClientPlan(f"{task}-{n}", find(task), "generation", None, 40) for n in range(3)]
    clients = federate(asked, flan, 0)
    trained = [row_key(row) for data in clients.values() for row in data.train]
    tested = [row_key(row) for data in clients.values() for row in data.test]
    assert len(set(trained)) == len(trained) == 300
    assert len(tested) == 120
    assert not set(trained) & set(tested)
    assert {data.labels for data in clients.values()} == {()}
    assert all(row.answer for data in clients.values() for row in data.train + data.test)
    assert federate(asked[::-1], flan, 0) == clients
