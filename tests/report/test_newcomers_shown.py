"""A client that came after the decision is shown with its expert, and the decision without it."""

from __future__ import annotations

import io
from pathlib import Path

from made import allocation
from page_runs import entry
from page_tree import check, table_of
from rich.console import Console

from fedlease.report.allocation_figure import allocation_figure
from fedlease.report.page import make_page
from fedlease.report.records import owners
from fedlease.report.summary import allocation_text, client_table

DECIDED = allocation({"red": 4, "blue": 3})
OWN = dict(zip(DECIDED["clients"], DECIDED["labels"], strict=True))
RUN = entry(tasks={"red": 4, "blue": 4}, allocation={**DECIDED, "newcomers": {"blue-3": OWN["blue-0"]}})


def test_it_has_its_expert_in_every_table() -> None:
    assert owners(RUN.record) == {**OWN, "blue-3": OWN["blue-0"]}
    assert owners(entry(row="fedit").record) == {}
    screen = Console(file=io.StringIO(), width=120)
    screen.print(allocation_text(RUN.record))
    screen.print(client_table(RUN.record))
    said = screen.file.getvalue()  # type: ignore[attr-defined]
    assert f"{OWN['blue-0']}: blue-0, blue-1, blue-2, blue-3 (came later)" in said
    (row,) = [line for line in said.splitlines() if "blue-3" in line and "│" in line]
    assert row.split("│")[4].strip() == str(OWN["blue-0"])


def test_the_page_has_it_and_draws_the_decision_as_it_was(tmp_path: Path) -> None:
    root = check(make_page([RUN]))
    said = root.by_id("allocation").text
    assert "blue-3 came later, each to the expert it was nearest to" in said
    assert "Dendrogram and distances of 7 clients" in make_page([RUN])
    members = table_of(root, "fedlease: who trains which expert")
    assert "blue-3" in members[str(OWN["blue-0"])][-1]
    before = entry(tasks={"red": 4, "blue": 4}, allocation={**DECIDED, "newcomers": {}})
    for name, made in (("with", RUN), ("without", before)):
        allocation_figure(made.record["allocation"], tmp_path / f"{name}.png")
    assert (tmp_path / "with.png").read_bytes() == (tmp_path / "without.png").read_bytes()
