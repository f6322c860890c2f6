"""The formats of a table, by name. A new one is a function from a `Table` to text, listed in `FORMATS`."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from fedlease.report.statistics import Comparison, Summary
from fedlease.report.table import Column, Section, Table
from fedlease.report.table_text import cell_text, cells_of, text

LINE = (
    *("section", "row", "column", "kind", "mean", "deviation", "seeds", "clients", "best"),
    *("against", "pairs", "p_t", "p_wilcoxon", "p_t_seeds"),
)
"""The columns of the CSV."""

LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": "$<$", ">": "$>$", "|": r"\textbar{}", "±": r"$\pm$", "Δ": r"$\Delta$"},
    **{"[": "{[}", "*": "{*}"},  # at the start of a row they would belong to the break before it
}


def markdown(table: Table) -> str:
    """A Markdown table with its title above and its notes below."""
    head, right = ["method"], ["---"]
    for section in table.sections:
        start = f"{section.name}: " if section.name and len(table.sections) > 1 else ""
        head += [start + column.title for column in section.columns]
        right += ["---:"] * len(section.columns)
    lines = [f"**{_markdown(table.title)}**", "", _bar(map(_markdown, head)), _bar(right)]
    lines += [_bar([_markdown(row), *_cells(table, row, _markdown, "**{}**")]) for row in table.rows]
    lines += [line for note in table.notes for line in ("", _markdown(note))]
    return "\n".join(lines) + "\n"


def latex(table: Table) -> str:
    """A LaTeX table for the package booktabs."""
    columns = [column for section in table.sections for column in section.columns]
    lines = [r"\begin{table}[t]", r"\centering", rf"\caption{{{_latex(table.title)}}}"]
    lines += [rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule"]
    if len(table.sections) > 1:
        lines += _section_heads(table)
    lines += [_row(["Method", *(_latex(column.title) for column in columns)]), r"\midrule"]
    lines += [_row([_latex(row), *_cells(table, row, _latex, r"\textbf{{{}}}")]) for row in table.rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [line for note in table.notes for line in ("", rf"{{\footnotesize {_latex(note)}\par}}")]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def long_csv(table: Table) -> str:
    """Every number exactly, a line for each row, section and column; notes are left out.

    Scores, deviations and differences are in percent. ``kind`` is a `Column`'s, or ``runner-up`` for the best
    row against the best of another method. ``best`` is 1 where the number stands out in the other formats.
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, LINE, lineterminator="\n")
    writer.writeheader()
    for section in table.sections:
        for line in _lines(section):
            writer.writerow({"section": section.name, **line})
    return file.getvalue()


def _lines(section: Section) -> Iterator[dict[str, Any]]:
    for row, cells in section.rows.items():
        for column, cell in zip(section.columns, cells, strict=True):
            if column.kind == "p":  # it stands in the line of the difference
                continue
            line = {"row": row, "column": _name(column), "kind": column.kind, "clients": column.clients or ""}
            yield {
                **line,
                **_numbers(cell.value),
                "best": int(cell.best),
                **(_tests(cell.comparison) if cell.comparison else {}),
            }
    if section.runner_up is not None:
        found = section.runner_up
        line = {"row": found.row, "column": "difference", "kind": "runner-up"}
        yield {**line, **_numbers(found.difference), **_tests(found)}


def _name(column: Column) -> str:
    if column.kind == "group":
        return column.title.removesuffix(f" ({column.clients})")
    return {"parameters": "parameters", "difference": "difference"}.get(column.kind, column.title)


def _numbers(value: Summary | None) -> dict[str, Any]:
    if value is None:
        return {"mean": "", "deviation": "", "seeds": 0}
    return {"mean": value.mean, "deviation": _or_nothing(value.deviation), "seeds": value.seeds}


def _tests(found: Comparison) -> dict[str, Any]:
    return {
        "against": found.against,
        "pairs": found.pairs,
        "p_t": _or_nothing(found.p),
        "p_wilcoxon": _or_nothing(found.wilcoxon),
        "p_t_seeds": _or_nothing(found.p_seeds),
    }


def _or_nothing(value: float | None) -> float | str:
    return "" if value is None else value


def _cells(table: Table, row: str, escape: Callable[[str], str], bold: str) -> Iterator[str]:
    for section in table.sections:
        for column, cell in zip(section.columns, cells_of(section, row), strict=True):
            shown = escape(cell_text(column, cell))
            yield bold.format(shown) if cell.best else shown


def _bar(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _section_heads(table: Table) -> list[str]:
    heads, rules, first = [""], [], 2
    for section in table.sections:
        last = first + len(section.columns) - 1
        heads.append(rf"\multicolumn{{{len(section.columns)}}}{{c}}{{{_latex(section.name)}}}")
        rules.append(rf"\cmidrule(lr){{{first}-{last}}}")
        first = last + 1
    return [_row(heads), " ".join(rules)]


def _markdown(words: str) -> str:
    return re.sub(r"([\\`*|<\[\]])", r"\\\1", " ".join(words.split()))


def _latex(words: str) -> str:
    escaped = "".join(LATEX.get(sign, sign) for sign in " ".join(words.split()))
    return re.sub(r"^-(?=\d)", "$-$", escaped)  # a minus, no hyphen


class Format(NamedTuple):
    """How a table is written: a function, and whether the notes are part of what it writes."""

    write: Callable[[Table], str]
    with_notes: bool = True


FORMATS: Mapping[str, Format] = {
    "text": Format(text),
    "markdown": Format(markdown),
    "latex": Format(latex),
    "csv": Format(long_csv, with_notes=False),
}
