"""Which runs a table takes and compares: missing, unfinished, differing and refused ones."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from cells import FEDIT, LEASE, cell, said
from scipy import stats

from fedlease.core.errors import FedLeaseError
from fedlease.report.records import Entry
from fedlease.report.table import make_table


def test_missing_seeds_are_told_and_the_common_ones_compared(two: list[Entry]) -> None:
    table = make_table([run for run in two if (run.row, run.record["seed"]) != ("FedIT", 1)])
    assert said(table, "seeds missing") == (
        "Note: seeds missing: FedIT lacks 1. Rows are compared over the seeds both have."
    )
    own, other = (np.array([scores[seed] for seed in (0, 2)]) for scores in (LEASE, FEDIT))
    found = cell(table, "FedLEASE", "p").comparison
    assert found is not None
    assert (found.pairs, found.seeds) == (8, 2)
    assert found.p == pytest.approx(stats.ttest_rel(own.ravel(), other.ravel()).pvalue)
    assert found.difference is not None
    assert found.difference.mean == pytest.approx(100 * (own - other).mean())


def test_incomplete_and_waiting_runs_are_named(two: list[Entry]) -> None:
    stopped = {**two[0].record, "status": "running"}
    runs = [two[0]._replace(record=stopped), *two[1:]]
    table = make_table(runs, waiting=["IFCA seed 0, runs/ifca-0"])
    assert table.rows == ("FedIT", "FedLEASE")  # in the order of all runs
    assert said(table, "Left out") == (
        "Left out, not complete: FedIT seed 0: running, 1 of 9 rounds, runs/FedIT-0."
    )
    assert said(table, "Not run yet") == "Not run yet: IFCA seed 0, runs/ifca-0."
    with pytest.raises(FedLeaseError, match=r"no run is complete \(FedIT seed 0: running, 1 of 9 rounds"):
        make_table(runs[:1])
    with pytest.raises(FedLeaseError, match="no run has a record yet"):
        make_table([])


def test_clients_without_a_score_are_named(entry: Any) -> None:
    table = make_table([entry("FedIT", 0, [0.5, None, 0.5, 0.5]), entry("b", 0, [0.6, 0.9, 0.6, 0.7])])
    assert said(table, "not every client") == "Note: not every client was scored: FedIT seed 0 without red-1."
    found = cell(table, "b", "Δ").comparison
    assert found is not None
    assert found.pairs == 3
    silent = make_table([entry("FedIT", 0, [None] * 4), entry("b", 0, [0.6] * 4)])
    assert cell(silent, "FedIT", "average").value is None
    assert "without blue-0, blue-1, red-0, red-1" in said(silent, "not every client")


def test_clients_that_share_test_rows_are_told(entry: Any) -> None:
    runs = [entry("FedIT", 0, [0.5] * 4), entry("FFA", 0, [0.6, 0.6, 0.5, 0.7])]
    assert not [note for note in make_table(runs).notes if "test rows" in note]
    for client in ("blue-0", "blue-1"):
        runs[1].record["clients"][client]["shared_test_rows"] = True
    assert said(make_table(runs), "test rows") == (
        "Note: clients that share test rows with others, so that their scores are not independent: "
        "blue (2 of 2)."
    )


def test_rows_of_plain_runs_tell_the_settings_that_differ(entry: Any) -> None:
    def run(name: str, folder: int, **settings: Any) -> Entry:
        made = entry(name, 0, [0.5] * 4, method=name)
        made.record["spec"]["method"] = {"name": name, "rank": 4, **settings}
        made.record["spec"]["training"] = {"learning_rate": 0.1 if folder < 3 else 0.2}
        made.record["spec"]["model"] = {"name": "m", "threads": folder}
        return made

    runs = [
        run("fedlease", 0, top_k=None),
        run("fedlease", 1, top_k=2),
        run("fedit", 2),
        run("fedlease", 3, top_k=2),
    ]
    assert make_table(runs[:3]).rows == ("fedlease (top_k=none)", "fedlease (top_k=2)", "fedit")
    assert make_table(runs[1:]).rows == (
        "fedlease (training.learning_rate=0.1)",
        "fedit",
        "fedlease (training.learning_rate=0.2)",
    )


def test_two_runs_of_one_row_and_seed_must_be_the_same(entry: Any) -> None:
    first, again = entry("FedIT", 0, [0.5] * 4), entry("FedIT", 0, [0.5] * 4)
    again.record["rounds"][0]["seconds"]["total"] = 99.0
    assert make_table([first, again, first]) == make_table([first])
    other = entry("FedIT", 0, [0.5, 0.5, 0.5, 0.6])._replace(folder=first.folder / "other")
    with pytest.raises(
        FedLeaseError, match=r"FedIT-0 and runs/FedIT-0/other are two different runs of FedIT, seed 0"
    ):
        make_table([first, other])


def test_other_rows_or_clients_are_refused(entry: Any) -> None:
    first = entry("FedIT", 0, [0.5] * 4)
    rows = entry("FFA", 0, [0.5] * 4)
    rows.record["clients"]["red-1"]["rows_hash"] = "else"
    with pytest.raises(FedLeaseError, match=r"not of the same data: client red-1 has other rows with seed 0"):
        make_table([first, rows])
    make_table([first._replace(section="a"), rows._replace(section="b")])
    clients = entry("FFA", 1, [0.5] * 4)
    del clients.record["clients"]["red-1"]
    with pytest.raises(FedLeaseError, match=r"runs/FedIT-0 and runs/FFA-1 have different clients$"):
        make_table([first, clients])
    metric = entry("FFA", 0, [0.5] * 4)
    metric.record["metric"] = "rougeL"
    with pytest.raises(FedLeaseError, match="scored by accuracy and rougeL"):
        make_table([first, metric])


def test_work_that_differs_is_told(two: list[Entry]) -> None:
    assert not any("rows that a run" in note for note in make_table(two).notes)
    more = copy.deepcopy([entry.record for entry in two])
    for record, entry in zip(more, two, strict=True):
        if entry.row != "FedIT":
            record["rounds"][-1]["rows"]["train"] += 1000
    changed = [entry._replace(record=record) for entry, record in zip(two, more, strict=True)]
    (note,) = [note for note in make_table(changed).notes if "rows that a run" in note]
    rounds = len(two[0].record["rounds"])
    assert note == f"Note: rows that a run trained on: {300 * rounds:,}; FedLEASE {300 * rounds + 1000:,}."
