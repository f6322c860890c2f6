"""Reading rows: what comes out of every format, and that every bad input is named on one line."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from fedlease.core.errors import FedLeaseError
from fedlease.data.sources import Example, Source, load

ROWS: list[dict[str, Any]] = [
    {"said": "it rains", "where": 'Bergen, "city"', "kind": 1},
    {"said": "line\u2028separator", "where": "two\nlines", "kind": 0},
    {"said": "naïve café ☕", "where": "x", "kind": 1},
]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)


def source(path: Path, **changes: Any) -> Source:
    return Source(**{"text": ("said", "where"), "label": "kind", "train": str(path), **changes})


def problem(given: Source, root: Path | None = None) -> str:
    with pytest.raises(FedLeaseError) as caught:
        load(given, root)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize("names", [(), ("no", "yes")])
def test_every_format_gives_the_same_rows(tmp_path: Path, ending: str, names: tuple[str, ...]) -> None:
    path = tmp_path / f"rows{ending}"
    write(path, ROWS)
    table = load(source(path, labels=names))
    assert table.train == (
        Example(("it rains", 'Bergen, "city"'), 1),
        Example(("line\u2028separator", "two\nlines"), 0),
        Example(("naïve café ☕", "x"), 1),
    )
    assert table.labels == (names or ("0", "1"))
    assert table.test is None
    assert table.origin == str(path)


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize(
    ("values", "names", "labels", "indices"),
    [
        ([True, False, True], (), ("false", "true"), [1, 0, 1]),
        ([True, False, True], ("no", "yes"), ("no", "yes"), [1, 0, 1]),
        (["b", "c", "a"], (), ("a", "b", "c"), [1, 2, 0]),
        (["b", " c", "a"], ("c", "b", "a"), ("c", "b", "a"), [1, 0, 2]),
        ([10, 9, 2], (), ("2", "9", "10"), [2, 1, 0]),
        ([1.0, 0.0, 2.0], ("x", "y", "z"), ("x", "y", "z"), [1, 0, 2]),
        ([2, 1, 2], ("2", "1"), ("2", "1"), [0, 1, 0]),
    ],
)
def test_labels_of_every_kind(
    tmp_path: Path, ending: str, values: list[Any], names: tuple[str, ...], labels: Any, indices: Any
) -> None:
    if ending == ".csv":  # where 1.0 is text
        values = [int(value) if isinstance(value, float) else value for value in values]
    path = tmp_path / f"rows{ending}"
    write(path, [{**row, "kind": value} for row, value in zip(ROWS, values, strict=True)])
    table = load(source(path, labels=names))
    assert (table.labels, [row.label for row in table.train]) == (labels, indices)


def test_one_text_column_outer_white_space_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf\n{"said": " a ", "kind": 0}\r\n  \n{"said": "b", "kind": 1}')
    assert load(source(path, text=("said",))).train == (Example(("a",), 0), Example(("b",), 1))


def test_train_and_test_files_under_a_root(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", ROWS)
    write(tmp_path / "test.csv", [{"said": "later", "where": "there", "kind": "2"}])
    table = load(source(Path("train.jsonl"), test="test.csv"), tmp_path)
    assert table.test == (Example(("later", "there"), 2),)
    assert table.labels == ("0", "1", "2")
    assert table.origin == f"{tmp_path / 'train.jsonl'} and {tmp_path / 'test.csv'}"


def test_the_same_file_for_train_and_test_counts_as_one(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", ROWS)
    assert load(source(Path("rows.jsonl"), test="./rows.jsonl"), tmp_path).test is None


def test_loads_are_cached(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write(path, ROWS)
    assert load(source(path)) is load(source(path))


GOOD = '{"said": "a", "where": "b", "kind": 0}\n'


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", GOOD + "\n{oops\n", "a.jsonl:3: is not valid JSON"),
        ("a.jsonl", GOOD + "[1, 2]\n", "a.jsonl:2: is not a JSON object"),
        (
            "a.jsonl",
            GOOD + '{"said": "a", "kind": 0}\n',
            "a.jsonl:2: no column 'where'; there are: said, kind",
        ),
        ("a.jsonl", GOOD + GOOD.replace('"b"', '" "'), "a.jsonl:2: the text in column 'where' is empty"),
        ("a.jsonl", GOOD + GOOD.replace('"b"', "null"), "a.jsonl:2: the text in column 'where' is empty"),
        ("a.jsonl", GOOD + GOOD.replace('"b"', "7"), "a.jsonl:2: column 'where' holds int 7, not text"),
        (
            "a.jsonl",
            GOOD + GOOD.replace('"b"', '"\\ud83d"'),
            "a.jsonl:2: column 'where' holds half of a char",
        ),
        ("a.jsonl", GOOD + GOOD.replace("0", "null"), "a.jsonl:2: the label in column 'kind' is empty"),
        ("a.jsonl", GOOD + GOOD.replace("0", "0.5"), "a.jsonl:2: label 0.5 in column 'kind' is no integer"),
        ("a.jsonl", GOOD + GOOD, "a.jsonl: every row has the label '0'"),
        ("a.jsonl", "", "a.jsonl: has no rows"),
        ("a.jsonl", "\n\n", "a.jsonl: has no rows"),
        ("a.csv", "", "a.csv: has no rows"),
        ("a.csv", "said,where,said,kind\na,b,c,0\n", "a.csv:1: the header has the column 'said' twice"),
        ("a.csv", "said,where,kind\n", "a.csv: has no rows"),
        ("a.csv", "said,kind\na,1\n", "a.csv:1: no column 'where'; there are: said, kind"),
        ("a.csv", 'said,where,kind\n"x\ny",b,1\na,b\n', "a.csv:4: has 2 cells where the header has 3"),
        ("a.csv", 'said,where,kind\na,b,1\n"a"x,b,1\n', "a.csv:3: is not valid CSV"),
        ("a.csv", "said,where,kind\na,,1\n", "a.csv:2: the text in column 'where' is empty"),
        ("a.csv", "said,where,kind\na,b,\n", "a.csv:2: the label in column 'kind' is empty"),
        ("a.parquet", "PAR1 not really", "a.parquet: is not a valid Parquet file"),
        ("a.txt", "x", "a.txt: unknown format '.txt'; data files end in one of .jsonl, .csv, .parquet"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: str, expected: str) -> None:
    path = tmp_path / name
    path.write_text(content, "utf-8")
    assert problem(source(path)).startswith(f"{tmp_path}/{expected}")


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    assert problem(source(Path("a.jsonl")), tmp_path) == f"{tmp_path / 'a.jsonl'}: no such file"
    (tmp_path / "b.jsonl").mkdir()
    assert problem(source(Path("b.jsonl")), tmp_path).startswith(f"{tmp_path / 'b.jsonl'}: is a folder")


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_the_line_that_is_not_utf8_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"said,where,kind\nok,ok,1\nna\xefve,ok,1\n")
    assert problem(source(path)) == f"{path}:3: is not UTF-8 text; save the file as UTF-8"


@pytest.mark.parametrize(("label", "shown"), [(2, "2"), (-1, "-1"), ("maybe", "maybe")])
def test_labels_out_of_range_are_named(tmp_path: Path, label: Any, shown: str) -> None:
    path = tmp_path / "a.jsonl"
    write(path, [*ROWS, {**ROWS[0], "kind": label}])
    assert problem(source(path, labels=("no", "yes"))) == (
        f"{path}:4: label '{shown}' in column 'kind' is none of the 2 labels: no, yes (or 0 to 1)"
    )


def test_a_column_of_texts_taken_for_labels(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path, [{"said": "x", "where": "y", "kind": f"text {number}"} for number in range(150)])
    assert problem(source(path)) == f"{path}: 150 rows have 150 labels; is the label column right?"


def test_parquet_names_columns_and_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write(path, [ROWS[0], {**ROWS[1], "said": None}])
    assert problem(source(path)) == f"{path}, row 2: the text in column 'said' is empty"
    given = source(path, text=("said", "who"))
    assert problem(given) == f"{path}: no column 'who'; there are: said, where, kind"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"text": ("a",)}, "a data source needs one of: train (a file), hub, generated"),
        ({"text": (), "train": "x.csv"}, "x.csv: text names 0 columns"),
        ({"text": ("a", "b", "c"), "hub": "h/x"}, "h/x: text names 3 columns"),
        ({"text": ("a",), "label": "a", "train": "x.csv"}, "x.csv: column 'a' is both text and label"),
        ({"text": ("a",), "train": "x.csv", "labels": ("one",)}, "x.csv: labels are one; name two or more"),
        (
            {"text": ("a",), "train": "x.csv", "labels": ("b", "b")},
            "x.csv: labels are b, b; name two or more",
        ),
        ({"text": ("a",), "test": "x.csv", "hub": "h"}, "x.csv: a test file needs a train file"),
    ],
)
def test_sources_that_make_no_sense(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(FedLeaseError) as caught:
        Source(**given)
    assert str(caught.value).startswith(expected)


def test_the_key_leaves_out_folders() -> None:
    one = Source(text=("a",), train="/here/x.csv")
    assert one.key == Source(text=("a",), train="there/x.csv").key
    assert one.key != Source(text=("b",), train="/here/x.csv").key
    assert one.key != Source(text=("a",), train="/here/y.csv").key


def test_a_file_changed_on_disk_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    write(train, ROWS)
    write(test, ROWS)
    given = source(Path("train.jsonl"), test="test.jsonl")
    first = load(given, tmp_path)
    write(test, ROWS[:2])  # another size
    second = load(given, tmp_path)
    assert second.test == first.train[:2]
    same_size = train.read_text("utf-8").replace("it rains", "it snows")
    train.write_text(same_size, "utf-8")
    os.utime(train, ns=(1, 1))
    assert load(given, tmp_path).train[0].texts[0] == "it snows"
    monkeypatch.chdir(tmp_path)
    here = load(given)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert problem(given).endswith("train.jsonl: no such file")
    monkeypatch.chdir(tmp_path)
    assert load(given) is here


@pytest.mark.parametrize(("names", "label"), [(("1", "2", "3"), "0"), (("0", "5"), "1"), (("2", "1"), "3")])
def test_numbers_are_names_where_names_are_numbers(
    tmp_path: Path, names: tuple[str, ...], label: str
) -> None:
    path = tmp_path / "a.csv"
    write(path, [{**ROWS[0], "kind": names[0]}, {**ROWS[1], "kind": label}])
    assert problem(source(path, labels=names)) == (
        f"{path}:3: label '{label}' in column 'kind' is none of the {len(names)} labels: {', '.join(names)}"
    )


def test_numbers_written_otherwise_are_still_those_names(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write(path, [{**ROWS[0], "kind": "02"}, {**ROWS[1], "kind": "+1"}])
    assert [row.label for row in load(source(path, labels=("1", "2"))).train] == [1, 0]
