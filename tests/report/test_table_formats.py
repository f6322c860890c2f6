"""A small table in every format, to the byte."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pytest
from rich.console import Console
from scipy import stats

from fedlease.report.records import Entry
from fedlease.report.table import Table, make_table
from fedlease.report.table_formats import FORMATS
from fedlease.report.table_text import on_screen

P = stats.ttest_rel([75.0, 50.0, 100.0, 75.0], [50.0] * 4).pvalue
MEASURED = "Test accuracy in percent after the last scored round, mean over clients, "
SPREAD = "then over seeds 0, 1; ± is the sample standard deviation over seeds."


@pytest.fixture
def small(entry: Any) -> Table:
    """FedIT with two seeds and FedLEASE with one."""
    told = {"parameters": {"base": 1000, "trained": {"A": 2, "B": 3}}}
    runs = [
        entry("FedIT", 0, [0.5, 0.5, 0.5, 0.5], **told),
        entry("FedIT", 1, [0.5, 0.5, 0.75, 0.75], **told),
        entry("FedLEASE [50%]", 0, [0.75, 0.5, 1.0, 0.75], method="fedlease"),
    ]
    return make_table(runs, title="A & B")


def test_markdown(small: Table) -> None:
    assert f"{P:.3f}" == "0.092"
    assert FORMATS["markdown"].write(small) == (
        "**A & B**\n"
        "\n"
        "| method | % Param | red (2) | blue (2) | average | Δ | p |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| FedIT | 0.5000 | 50.00 ± 0.00 | 62.50 ± 17.68 | 56.25 ± 8.84 | - | - |\n"
        "| FedLEASE \\[50%\\] | - | 62.50 | 87.50 | 75.00 | +25.00 | 0.092 |\n"
        "\n"
        f"{MEASURED}{SPREAD}\n"
        "\n"
        "Δ and p are against FedIT: two-sided paired t test over clients and seeds; 4 pairs of 1 seed.\n"
        "\n"
        "FedLEASE \\[50%\\] has the best average, +25.00 points to FedIT, the best row of another method: "
        "p = 0.092 (4 pairs of 1 seed).\n"
        "\n"
        "Clients of one seed share a model, so that p over clients and seeds is optimistic.\n"
        "\n"
        "Note: seeds missing: FedLEASE \\[50%\\] lacks 1. Rows are compared over the seeds both have.\n"
    )


def test_latex(small: Table) -> None:
    lines = FORMATS["latex"].write(small).splitlines()
    assert lines[:11] == [
        r"\begin{table}[t]",
        r"\centering",
        r"\caption{A \& B}",
        r"\begin{tabular}{lrrrrrr}",
        r"\toprule",
        r"Method & \% Param & red (2) & blue (2) & average & $\Delta$ & p \\",
        r"\midrule",
        r"FedIT & 0.5000 & 50.00 $\pm$ 0.00 & 62.50 $\pm$ 17.68 & 56.25 $\pm$ 8.84 & - & - \\",
        r"FedLEASE {[}50\%] & - & 62.50 & 87.50 & 75.00 & +25.00 & 0.092 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    measured = f"{MEASURED}{SPREAD}".replace("±", r"$\pm$")
    assert lines[11:13] == ["", rf"{{\footnotesize {measured}\par}}"]
    assert lines[-1] == r"\end{table}"
    assert len([line for line in lines if line.startswith(r"{\footnotesize")]) == len(small.notes)


def test_csv_is_exact(small: Table) -> None:
    text = FORMATS["csv"].write(small)
    p, wilcoxon = float(P), float(stats.wilcoxon([25.0, 0.0, 50.0, 25.0]).pvalue)
    assert text == (
        "section,row,column,kind,mean,deviation,seeds,clients,best,against,pairs,p_t,p_wilcoxon,p_t_seeds\n"
        ",FedIT,parameters,parameters,0.5,0.0,2,,0,,,,,\n"
        ",FedIT,red,group,50.0,0.0,2,2,0,,,,,\n"
        ",FedIT,blue,group,62.5,17.67766952966369,2,2,0,,,,,\n"
        ",FedIT,average,average,56.25,8.838834764831844,2,4,0,,,,,\n"
        ",FedIT,difference,difference,,,0,4,0,,,,,\n"
        ",FedLEASE [50%],parameters,parameters,,,0,,0,,,,,\n"
        ",FedLEASE [50%],red,group,62.5,,1,2,0,,,,,\n"
        ",FedLEASE [50%],blue,group,87.5,,1,2,0,,,,,\n"
        ",FedLEASE [50%],average,average,75.0,,1,4,0,,,,,\n"
        f",FedLEASE [50%],difference,difference,25.0,,1,4,0,FedIT,4,{p!r},{wilcoxon!r},\n"
        f",FedLEASE [50%],difference,runner-up,25.0,,1,,,FedIT,4,{p!r},{wilcoxon!r},\n"
    )
    assert not FORMATS["csv"].with_notes


def test_text(small: Table) -> None:
    text = FORMATS["text"].write(small)
    rows = [line.strip("│").split("│") for line in text.splitlines() if line.startswith("│")]
    assert [[word.strip() for word in row] for row in rows] == [
        ["FedIT", "0.5000", "50.00 ± 0.00", "62.50 ± 17.68", "56.25 ± 8.84", "-", "-"],
        ["FedLEASE [50%]", "-", "62.50", "87.50", "75.00", "+25.00", "0.092"],
    ]
    assert text.startswith("A & B\n┏")
    words = " ".join(text.split())  # long notes are broken into lines
    for note in small.notes:
        assert note in words
    assert "\x1b" not in text


@pytest.fixture
def even(entry: Any) -> Table:
    """Two rows of the same seed, so that the best can be told."""
    runs = [
        entry("FedIT", 0, [0.5, 0.5, 0.5, 0.5]),
        entry("FedLEASE", 0, [0.75, 0.5, 1.0, 0.75], method="fedlease"),
    ]
    return make_table(runs)


def test_the_best_are_bold(even: Table) -> None:
    screen = io.StringIO()
    Console(file=screen, force_terminal=True, width=120, color_system="standard").print(on_screen(even, 120))
    for number in ("62.50", "87.50", "75.00", "+25.00"):
        assert re.search(rf"\x1b\[1m *{re.escape(number)}", screen.getvalue())
        assert f"**{number}**" in FORMATS["markdown"].write(even)
        assert rf"\textbf{{{number}}}" in FORMATS["latex"].write(even)
    assert not re.search(r"\x1b\[1m *50.00", screen.getvalue())
    best = {
        row["column"]: row["best"]
        for row in csv.DictReader(io.StringIO(FORMATS["csv"].write(even)))
        if row["row"] == "FedLEASE"
    }
    assert (best["red"], best["blue"], best["average"]) == ("1", "1", "1")


def test_none_is_bold_while_seeds_differ(small: Table) -> None:
    assert "**6" not in FORMATS["markdown"].write(small)
    assert "textbf" not in FORMATS["latex"].write(small)


@pytest.fixture
def sections(entry: Any) -> Table:
    """Two sections; the second lacks a row and has a strange name."""
    runs = [
        entry("FedIT", 0, [0.5] * 4, "r = 2"),
        entry("FFA", 0, [0.25] * 4, "r = 2", method="ffa_lora"),
        entry("FedIT", 0, [0.5] * 4, "100% | r_6"),
    ]
    return make_table(runs)


def test_sections_side_by_side(sections: Table) -> None:
    lines = FORMATS["markdown"].write(sections).splitlines()
    assert lines[2].startswith("| method | r = 2: % Param | r = 2: red (2) |")
    assert "| 100% \\| r_6: average |" in lines[2]
    assert lines[5] == ("| FFA | - | 25.00 | 25.00 | 25.00 | -25.00 | - | - | - | - | - | - | - |")
    latex = FORMATS["latex"].write(sections).splitlines()
    assert latex[5:7] == [
        r" & \multicolumn{6}{c}{r = 2} & \multicolumn{6}{c}{100\% \textbar{} r\_6} \\",
        r"\cmidrule(lr){2-7} \cmidrule(lr){8-13}",
    ]
    assert r"& $-$25.00 & - &" in latex[10]
    lines = FORMATS["csv"].write(sections).splitlines()
    assert [line.partition(",")[0] for line in lines[1:]] == ["r = 2"] * 11 + ["100% | r_6"] * 5
    parsed = list(csv.DictReader(io.StringIO(FORMATS["csv"].write(sections))))
    assert {row["row"] for row in parsed if row["section"] == "r = 2"} == {"FedIT", "FFA"}


def test_sections_are_stacked_where_they_do_not_fit(sections: Table) -> None:
    def heads(width: int) -> list[str]:
        screen = io.StringIO()
        Console(file=screen, width=width).print(on_screen(sections, width))
        return [line for line in screen.getvalue().splitlines() if "r = 2" in line or "r_6" in line]

    side, stacked = heads(140), heads(90)
    assert "r = 2" in side[0]
    assert "r_6" in side[0]
    assert "r_6" not in stacked[0]
    assert any("r_6" in line and "r = 2" not in line for line in stacked)


def test_a_file_has_whole_lines_however_wide(entry: Any) -> None:
    run = entry("FedIT", 0, [0.5] * 4)
    names = [f"a-group-with-a-long-name-{i}" for i in range(12)]
    run.record["spec"]["clients"] = [{"name": name} for name in names]
    run.record["clients"] = {name: {"group": name, "rows_hash": "x"} for name in names}
    run.record["rounds"][0]["metrics"] = {name: {"accuracy": 0.5} for name in names}
    text = FORMATS["text"].write(make_table([run]))
    for name in names:
        assert f"{name} (1)" in text


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_records_give_the_same_bytes(name: str, entry: Any) -> None:
    def write() -> str:
        runs: list[Entry] = [
            entry(row, seed, [0.1 * seed, 0.5, 0.6, 0.7 if row == "b" else 0.3], method=row)
            for row in ("fedit", "b")
            for seed in range(3)
        ]
        return FORMATS[name].write(make_table(runs))

    assert write() == write()


def test_a_small_p_and_a_rounded_zero(entry: Any) -> None:
    table = make_table(
        [
            entry("FedIT", 0, [0.5, 0.5, 0.5, 0.5]),
            entry("b", 0, [0.9, 0.9, 0.9001, 0.9]),
            entry("c", 0, [0.5, 0.5, 0.49999, 0.5]),
        ]
    )
    lines = FORMATS["markdown"].write(table).splitlines()
    assert lines[5].endswith("| **+40.00** | \\<0.001 |")
    assert lines[6].endswith("| +0.00 | 0.391 |")
    assert "& $<$0.001" in FORMATS["latex"].write(table)
