"""What a table holds: rows, columns, cells and notes, computed independently."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cells import FEDIT, LEASE, cell, said, titles
from scipy import stats

from fedlease.algorithms.fedlease import FedLease
from fedlease.algorithms.registry import methods
from fedlease.core.errors import FedLeaseError
from fedlease.report.gather import FEDLEASE
from fedlease.report.records import Entry
from fedlease.report.table import Cell, make_table


def test_means_are_over_clients_first_and_spread_is_over_seeds(two: list[Entry]) -> None:
    table = make_table(two)
    expected = ["% Param", "experts", "red (2)", "blue (2)", "average", "Δ", "p"]
    assert titles(table) == expected
    assert table.title == "Test accuracy (%)"
    for row, scores in (("FedIT", FEDIT), ("FedLEASE", LEASE)):
        every = 100 * np.array(list(scores.values()))
        for title, values in (("red (2)", every[:, :2]), ("blue (2)", every[:, 2:]), ("average", every)):
            means = values.mean(axis=1)
            value = cell(table, row, title).value
            assert value is not None
            assert value == pytest.approx((means.mean(), means.std(ddof=1), 3))


def test_rows_are_compared_with_fedit_over_clients_and_seeds(two: list[Entry]) -> None:
    table = make_table(two)
    own, other = 100 * np.array(list(LEASE.values())), 100 * np.array(list(FEDIT.values()))
    found = cell(table, "FedLEASE", "p").comparison
    assert found is not None
    assert found.p == pytest.approx(stats.ttest_rel(own.ravel(), other.ravel()).pvalue)
    assert found.p_seeds == pytest.approx(stats.ttest_rel(own.mean(axis=1), other.mean(axis=1)).pvalue)
    difference = cell(table, "FedLEASE", "Δ").value
    assert difference is not None
    assert difference.mean == pytest.approx((own - other).mean())
    assert cell(table, "FedIT", "p") == Cell()
    assert "against FedIT" in said(table, "12 pairs of 3 seeds.")
    assert f"FedLEASE p = {found.p_seeds:.3f} (3 seeds)" in said(table, "by the averages of the seeds:")
    assert "optimistic" in said(table, "share a model")


def test_the_best_of_each_column_is_marked_as_it_is_shown(two: list[Entry]) -> None:
    table = make_table(two)
    best = {name: [c.best for c in cells] for name, cells in table.sections[0].rows.items()}
    assert best["FedLEASE"] == [False, False, True, True, True, True, False]
    assert not any(best["FedIT"])
    assert not any(c.best for c in make_table(two[:3]).sections[0].rows["FedIT"])  # alone
    reversed_ = make_table(two, against="fedlease")
    assert not cell(reversed_, "FedIT", "Δ").best  # the reference is better


def test_equal_numbers_stand_out_alike(entry: Any) -> None:
    table = make_table([entry("a", 0, [0.5, 0.5, 0.25, 0.5]), entry("b", 0, [0.4, 0.600001, 0.25, 0.5])])
    assert [cell(table, row, "red (2)").best for row in "ab"] == [True, True]


def test_one_seed_has_no_spread(two: list[Entry]) -> None:
    table = make_table([two[0], two[3]])
    value = cell(table, "FedIT", "average").value
    assert value is not None
    assert value.deviation is None
    assert table.notes[0] == (
        "Test accuracy in percent after the last scored round, mean over clients; seed 0."
    )
    found = cell(table, "FedLEASE", "p").comparison
    assert found is not None
    assert found.p == pytest.approx(stats.ttest_rel(LEASE[0], FEDIT[0]).pvalue)
    assert not [note for note in table.notes if "averages of the seeds" in note]


def test_share_of_trained_parameters_and_number_of_experts(entry: Any) -> None:
    scores = [0.5, 0.5, 0.5, 0.5]
    told = {"parameters": {"base": 1000, "trained": {"A": 2, "B": 3}}}
    table = make_table(
        [
            entry("a", 0, scores, **told, allocation={"num_experts": 3}),
            entry("a", 1, scores, **told, allocation={"num_experts": 4}),
            entry("old", 0, scores),
        ]
    )
    assert cell(table, "a", "% Param").value == (pytest.approx(0.5), 0.0, 2)
    assert cell(table, "a", "experts").value == (3.5, pytest.approx(0.5**0.5), 2)
    assert cell(table, "old", "% Param").value is None
    assert cell(table, "old", "experts").value is None


def test_groups_of_different_sizes_also_have_the_mean_of_groups(entry: Any) -> None:
    run = entry("a", 0, [0.5, 0.75, 0.75, 1.0])
    run.record["clients"]["blue-0"]["group"] = "red"
    table = make_table([run])
    assert cell(table, "a", "average").value == (75.0, None, 1)
    value = cell(table, "a", "mean of groups").value
    assert value is not None
    assert value.mean == pytest.approx((200 / 3 + 100) / 2)  # as in the paper's Table 6


def test_only_the_last_scored_round_counts(two: list[Entry], record: Any) -> None:
    rounds = record([0.1] * 4, [0.5] * 4, None, status="complete", seed=0)
    table = make_table([two[0]._replace(row="long", record=rounds), two[0]._replace(record=rounds)])
    assert cell(table, "long", "average").value == (50.0, None, 1)
    later = record(None, None, None, [0.5] * 4, status="complete", seed=0)
    table = make_table([two[0]._replace(record=rounds), two[0]._replace(row="long", record=later)])
    assert said(table, "different rounds") == "Note: scores are of different rounds: FedIT 2, long 4."


def test_runs_in_different_number_formats_are_told_apart(entry: Any) -> None:
    runs = [entry("FedIT", 0, [0.5] * 4), entry("FedIT", 1, [0.5] * 4), entry("FFA", 0, [0.6] * 4)]
    for run, precision in zip(runs, ("float32", "bfloat16", "float32"), strict=True):
        run.record["plan"] = {"precision": precision}
    said_so = "Note: runs are in different number formats: FedIT bfloat16 and float32, FFA float32."
    assert said(make_table(runs), "number formats") == said_so
    runs[1].record["plan"]["precision"] = "float32"
    assert not [note for note in make_table(runs).notes if "number formats" in note]


def test_runs_of_different_versions_of_fedlease_are_told(entry: Any) -> None:
    runs = [entry("FedIT", 0, [0.5] * 4), entry("FFA", 0, [0.6] * 4), entry("FFA", 1, [0.6] * 4)]
    for run, version in zip(runs, ("0.1.0", "0.2.0", "0.1.0"), strict=True):
        run.record["versions"] = {"fedlease": version, "torch": "2"}
    assert said(make_table(runs), "versions") == (
        "Note: runs are of different versions of fedlease: FedIT 0.1.0, FFA 0.1.0 and 0.2.0."
    )
    assert not [note for note in make_table(runs[::2]).notes if "versions" in note]


def test_sections_have_their_own_columns(entry: Any) -> None:
    other = entry("FedIT", 0, [0.5] * 4, "most")
    other.record["clients"]["blue-0"]["group"] = "green"
    other.record["spec"]["clients"].append({"name": "green"})
    runs = [entry("FedIT", 0, [0.5] * 4, "least"), other, entry("FFA", 0, [0.6] * 4, "least")]
    table = make_table(runs)
    assert [section.name for section in table.sections] == ["least", "most"]
    assert titles(table, 0) == ["% Param", "red (2)", "blue (2)", "average", "Δ", "p"]
    assert titles(table, 1)[1:5] == ["red (2)", "blue (1)", "green (1)", "average"]
    assert table.rows == ("FedIT", "FFA")
    assert list(table.sections[1].rows) == ["FedIT"]
    assert said(table, "against FedIT").startswith("least: ")


def test_the_best_row_is_compared_with_the_best_of_another_method(entry: Any) -> None:
    mine = {"method": "fedlease"}
    paper = {"method": "fedlease_paper"}
    scores = {"FedIT": [0.5] * 4, "IFCA": [0.6, 0.65, 0.6, 0.6], "FedLEASE": [0.7, 0.75, 0.8, 0.7]}
    runs = [
        entry("FedIT", 0, scores["FedIT"]),
        entry("IFCA", 0, scores["IFCA"], method="ifca"),
        entry("FedLEASE", 0, scores["FedLEASE"], **mine),
        entry("FedLEASE as published", 0, [0.7] * 4, **paper),
    ]
    table = make_table(runs)
    p = stats.ttest_rel(scores["FedLEASE"], scores["IFCA"]).pvalue
    assert said(table, "best row of another method") == (
        "FedLEASE has the best average, +12.50 points to IFCA, the best row of another method: "
        f"p = {p:.3f} (4 pairs of 1 seed)."
    )
    assert make_table(runs[2:]).sections[0].runner_up is None


def test_the_best_row_is_told_and_compared_over_the_seeds_that_all_have(entry: Any) -> None:
    found = make_table(
        [
            entry("FedIT", 0, [0.7] * 4),
            entry("FedIT", 1, [0.1] * 4),
            entry("IFCA", 0, [0.6, 0.65, 0.6, 0.6], method="ifca"),
            entry("IFCA", 1, [0.9] * 4, method="ifca"),
            entry("FedDPA", 0, [0.5] * 4, method="feddpa"),
        ]
    )
    assert said(found, "best row of another method").startswith(
        "FedIT has the best average, +8.75 points to IFCA"
    )
    assert "4 pairs of 1 seed" in said(found, "best row of another method")


def test_an_expert_a_client_and_methods_of_others_are_no_fedlease(entry: Any) -> None:
    assert {name for name, method in methods().items() if method.make is FedLease} == set(FEDLEASE)
    single = entry("Single", 0, [0.5, 0.5, 0.5, 0.6])
    best = entry("FedLEASE", 0, [0.7, 0.75, 0.8, 0.7], method="fedlease")
    alone = entry("Individual", 0, [0.6, 0.65, 0.6, 0.6], method="fedlease")
    alone.record["spec"]["method"]["experts"] = "clients"
    plugin = entry("FedLEASE+", 0, [0.6, 0.65, 0.6, 0.7], method="fedlease_plus")
    for other in (alone, plugin):
        found = make_table([single, best, other]).sections[0].runner_up
        assert found is not None
        assert (found.row, found.against) == ("FedLEASE", other.row)


def test_the_row_of_reference(entry: Any) -> None:
    scores = [0.5] * 4
    small = [entry("r = 4", 0, scores), entry("FFA", 0, scores, method="ffa_lora")]
    assert "against r = 4" in said(make_table(small), "Δ and p")  # by its method
    assert "against FFA" in said(make_table(small, against="ffa"), "Δ and p")
    named = [*small, entry("FedIT", 0, scores, method="other")]
    assert "against FedIT" in said(make_table(named), "Δ and p")
    without = make_table(small[1:])
    assert titles(without) == ["% Param", "red (2)", "blue (2)", "average"]
    with pytest.raises(FedLeaseError, match=r"--against x: there is no such row; there are: r = 4, FFA$"):
        make_table(small, against="x")


def test_equal_scores_have_no_p(entry: Any) -> None:
    table = make_table([entry("FedIT", 0, [0.5] * 4), entry("twin", 0, [0.5] * 4, method="twin")])
    found = cell(table, "twin", "p").comparison
    assert found is not None
    assert (found.p, found.wilcoxon) == (None, None)
    assert "p undefined" in said(table, "best average")
    assert not [note for note in table.notes if "optimistic" in note]
