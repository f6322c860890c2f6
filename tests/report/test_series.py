"""Runs of several seeds together, and rows told apart by their settings."""

from __future__ import annotations

from pathlib import Path
from statistics import mean, stdev

import pytest
from made import FEDLEASE, run

from fedlease.core.errors import FedLeaseError
from fedlease.report.series import Measure, measure, one_run, same_clients, series

TWO = {"a": 2, "b": 1}


def test_seeds_are_averaged_with_the_sample_deviation() -> None:
    scores = [{"a-0": 0.5, "a-1": 0.7, "b": 0.9}, {"a-0": 0.6, "a-1": 0.8, "b": 0.8}, {"a-0": 0.4, "b": 1.0}]
    runs = [run("fedit", tasks=TWO, seed=seed, scores=found) for seed, found in enumerate(scores)]
    (one,) = series(runs)
    assert (one.row, one.section, len(one.runs)) == ("fedit", "", 3)
    found = measure(one, ["a-0", "a-1"])
    assert found.mean == pytest.approx(mean([60, 70, 40]))
    assert found.deviation == pytest.approx(stdev([60, 70, 40]))
    assert measure(one).mean == pytest.approx(mean([70, 220 / 3, 70]))
    assert measure(series(runs[:1])[0], ["b"]) == Measure(pytest.approx(90), 0.0)
    assert measure(series(runs[2:])[0], ["a-1"]).mean != measure(one).mean  # nan: it did not answer


def test_rows_and_sections_stay_in_the_order_they_come() -> None:
    runs = [run(row, section, seed=seed) for seed in (0, 1) for section in "yx" for row in ("b", "a")]
    assert [(one.row, one.section) for one in series(runs)] == [
        ("b", "y"),
        ("a", "y"),
        ("b", "x"),
        ("a", "x"),
    ]


def test_settings_tell_runs_of_one_name_apart() -> None:
    runs = [run("fedlease", method={**FEDLEASE, "top_k": k}, seed=seed) for k in (None, 2) for seed in (0, 1)]
    assert [one.row for one in series(runs)] == ["fedlease (top_k=none)", "fedlease (top_k=2)"]
    assert [len(one.runs) for one in series(runs)] == [2, 2]


def test_the_machine_tells_nothing_apart() -> None:
    runs = [run(seed=seed) for seed in (0, 1)]
    for entry, threads in zip(runs, (1, 2), strict=True):
        entry.record["spec"]["model"] = {"name": "minilm", "threads": threads, "precision": "auto"}
    assert len(series(runs)) == 1


def test_a_run_named_twice_is_refused() -> None:
    with pytest.raises(FedLeaseError, match="are the same run of fedit with the same seed"):
        series([run(), run()])


def test_a_run_before_its_first_score_is_named() -> None:
    (one,) = series([run(rounds=[{"round": 1, "metrics": {}}], folder=Path("runs/young"))])
    with pytest.raises(FedLeaseError, match="runs/young: no client is scored yet"):
        measure(one)


def test_different_clients_or_metrics_are_not_compared() -> None:
    for other in (run("b", tasks=TWO), run("b", metric="rougeL")):
        with pytest.raises(FedLeaseError, match="different clients or metrics"):
            same_clients(series([run("a"), other]))


def test_one_run_is_the_first_seed_and_never_a_guess() -> None:
    runs = [run("fedlease", seed=seed) for seed in (3, 1)]
    assert one_run(runs, lambda _: True, "a run") is runs[0]
    with pytest.raises(FedLeaseError, match="a run with x is needed; none"):
        one_run(runs, lambda _: False, "a run with x")
    with pytest.raises(FedLeaseError, match="name one of runs/fedlease--3, runs/ifca--0"):
        one_run([*runs, run("ifca")], lambda _: True, "a run")
