"""The numbers in the tables, computed by hand."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console, RenderableType

from fedlease.report import summary


def shown(piece: RenderableType) -> tuple[str, list[list[str]]]:
    """Print a table; return the text, and the cells of its rows."""
    screen = io.StringIO()
    Console(file=screen, width=200).print(piece)
    text = screen.getvalue()
    rows = [line.strip("│ ").split("│") for line in text.splitlines() if line.startswith("│")]
    return text, [[cell.strip() for cell in row] for row in rows]


def test_accuracy_is_the_mean_of_each_group_and_of_all_clients(record: Any) -> None:
    runs = [
        record([0.0, 0.0, 0.0, 0.0], [0.5, 0.625, 0.75, 1.0]),
        record([0.9, 0.9, 0.9, 0.9], [0.25, 0.75, 0.5, 0.25], method="fedlease"),
    ]
    text, rows = shown(summary.accuracy_table(runs))
    assert text.splitlines()[0].strip() == "Accuracy after round 2 (%)"
    for heading in ("red (2)", "blue (2)", "average"):
        assert heading in text
    assert rows == [["fedit", "56.2", "87.5", "71.9"], ["fedlease", "50.0", "37.5", "43.8"]]


def test_the_title_names_the_round_that_was_scored(record: Any) -> None:
    scores = [0.5, 0.5, 0.5, 0.5]
    stopped = record(None, scores, None)  # score_every = 2, stopped after round 3
    assert "Accuracy after round 2 (%)" in shown(summary.accuracy_table([stopped]))[0]
    text, rows = shown(summary.accuracy_table([stopped, record(None, None, None, scores, method="ifca")]))
    assert "Accuracy in the last scored round (%)" in text
    assert [row[0] for row in rows] == ["fedit, round 2", "ifca, round 4"]


def test_clients_that_did_not_answer_are_left_out_of_the_means(record: Any) -> None:
    rows = shown(summary.accuracy_table([record([0.5, None, 0.75, 1.0])]))[1]
    assert rows == [["fedit", "50.0", "87.5", "75.0"]]
    rows = shown(summary.accuracy_table([record([None, None, 0.75, 1.0])]))[1]
    assert rows == [["fedit", "-", "87.5", "87.5"]]
    one_missing = shown(summary.client_table(record([0.5, None, 0.75, 1.0])))[1]
    assert one_missing == [
        ["red-0", "20", "10", "-", "0.500", "50.0"],
        ["red-1", "20", "10", "-", "0.250", "-"],
        ["blue-0", "20", "10", "-", "-", "75.0"],
        ["blue-1", "20", "10", "-", "-", "100.0"],
    ]


@pytest.mark.parametrize("rounds", [(), (None, None)])
def test_a_run_without_a_scored_round_has_a_report(record: Any, rounds: tuple[None, ...]) -> None:
    text, rows = shown(summary.accuracy_table([record(*rounds)]))
    assert "Accuracy (%): no round is scored yet" in text
    assert rows == [["fedit", "-", "-", "-"]]
    assert f"running, {len(rounds)} of 9 rounds, seed 3" in shown(summary.run_report(record(*rounds)))[0]


def test_another_metric_than_accuracy(record: Any) -> None:
    made = record([0.5, 0.25, 1.0, 0.5], metric="rougeL") | {"metric": "rougeL"}
    text, rows = shown(summary.accuracy_table([made]))
    assert "ROUGE-L after round 1 (%)" in text
    assert rows == [["fedit", "37.5", "75.0", "56.2"]]
    text, rows = shown(summary.client_table(made))
    assert "ROUGE-L %" in text
    assert [row[-1] for row in rows] == ["50.0", "25.0", "100.0", "50.0"]


def test_cost_is_the_sum_over_the_rounds(record: Any) -> None:
    rows = shown(summary.cost_table([record(None, None)]))[1]
    up, down = "1 MB (A 800 kB, B 200 kB)", "1 MB (B 1 MB)"  # 999,700 bytes down
    assert rows == [["fedit", up, down, "20 s", "75.0 %", "20.0 %", "5.0 %", "40"]]
    assert shown(summary.cost_table([record()]))[1][0][1:4] == ["nothing", "nothing", "0 s"]


@pytest.mark.parametrize(
    ("size", "says"),
    [
        (0, "0 B"),
        (7, "7 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1234, "1.23 kB"),
        (12_345, "12.3 kB"),
        (123_456, "123 kB"),
        (999_499, "999 kB"),
        (999_700, "1 MB"),
        (2_359_296, "2.36 MB"),
        (999_999_999, "1 GB"),
        (4.5e15, "4500 TB"),
    ],
)
def test_sizes_have_three_digits_and_the_unit_that_fits(size: float, says: str) -> None:
    assert summary.human(size) == says


def test_experts_are_listed_with_their_clients_and_the_reason() -> None:
    allocation = {
        "clients": ["a", "b", "c"],
        "labels": [0, 1, 0],
        "num_experts": 2,
        "scores": {"2": 0.456},
        "reason": "because",
    }
    text = shown(summary.allocation_text({"allocation": allocation}) or "")[0]
    for line in ("  0: a, c\n", "  1: b\n", "  silhouette by number of experts: 2: 0.46\n", "  because\n"):
        assert line in text
    assert (
        "silhouette"
        not in shown(summary.allocation_text({"allocation": {**allocation, "scores": {}}}) or "")[0]
    )
    assert summary.allocation_text({}) is None


def test_rows_that_were_cut_are_told(record: Any) -> None:
    made = record([0.5] * 4)
    assert "cut" not in shown(summary.run_report(made))[0]
    made["clients"]["red-1"]["cut_rows"] = {"train": 3, "test": 0}
    made["clients"]["blue-0"]["cut_rows"] = {"train": 1, "test": 2}
    text = shown(summary.run_report(made))[0]
    assert "Training rows cut, longer than the model's max_length: red-1 3, blue-0 1." in text
    assert "Test rows cut, longer than the model's max_length: blue-0 2." in text
