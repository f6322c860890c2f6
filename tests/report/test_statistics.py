"""Means, spreads and paired tests, against numbers by hand and scipy called directly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fedlease.report.statistics import Summary, compare, summary, t_test, wilcoxon_test


def test_the_spread_is_the_sample_deviation_and_none_with_one_seed() -> None:
    assert summary([1.0, 2.0, 6.0]) == Summary(3.0, pytest.approx(math.sqrt(7)), 3)
    assert summary([4.0]) == Summary(4.0, None, 1)
    assert summary([]) is None


def test_p_of_the_t_test_by_hand() -> None:
    # differences 1, 2, 3: mean 2, deviation 1, t = 2 sqrt(3), two degrees of freedom
    t = 2 * math.sqrt(3)
    assert t_test([(2, 1), (4, 2), (6, 3)]) == pytest.approx(1 - t / math.sqrt(2 + t * t))


def test_pairs_are_the_clients_and_seeds_that_both_have() -> None:
    random = np.random.default_rng(0)
    own = {seed: {f"c{i}": float(random.normal(80, 5)) for i in range(6)} for seed in range(5)}
    other = {seed: {f"c{i}": float(random.normal(78, 5)) for i in range(1, 7)} for seed in range(1, 6)}
    other[2].pop("c3")
    pairs = [
        (own[s][c], other[s][c])
        for s in (1, 2, 3, 4)
        for c in ("c1", "c2", "c3", "c4", "c5")
        if (s, c) != (2, "c3")
    ]
    averages = np.array(
        [np.mean([(own[s][c], other[s][c]) for c in own[s] if c in other[s]], axis=0) for s in range(1, 5)]
    )
    a, b = np.array(pairs).T
    found = compare("x", own, "y", other)
    assert (found.row, found.against, found.pairs, found.seeds) == ("x", "y", 19, 4)
    assert found.p == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-9)
    assert found.wilcoxon == pytest.approx(stats.wilcoxon(a, b).pvalue, rel=1e-9)
    assert found.p_seeds == pytest.approx(stats.ttest_rel(*averages.T).pvalue, rel=1e-9)
    assert found.difference is not None
    assert found.difference.mean == pytest.approx((averages[:, 0] - averages[:, 1]).mean())
    assert found.difference.deviation == pytest.approx((averages[:, 0] - averages[:, 1]).std(ddof=1))


def test_p_is_none_where_it_is_undefined() -> None:
    same = [(50.0, 50.0), (60.0, 60.0), (70.0, 70.0)]
    assert t_test(same) is None
    assert wilcoxon_test(same) is None
    assert t_test([(2.0, 1.0)]) is None
    assert wilcoxon_test([(2.0, 1.0)]) is None


def test_a_constant_difference_is_no_certainty() -> None:
    shifted = [(100 * (k / 10 + 0.1), 100 * k / 10) for k in range(5)]  # 10 points apart, but for rounding
    assert len({own - other for own, other in shifted}) > 1
    assert t_test(shifted) is None
    assert wilcoxon_test(shifted) == pytest.approx(2 / 2**5)


def test_fewer_than_three_seeds_are_not_tested_by_their_averages() -> None:
    own = {seed: {"a": 50.0 + seed, "b": 60.0} for seed in range(2)}
    other = {seed: {"a": 40.0, "b": 55.0 + seed} for seed in range(3)}
    assert compare("x", own, "y", other).p_seeds is None


def test_nothing_in_common() -> None:
    found = compare("x", {0: {"a": 1.0}}, "y", {1: {"a": 1.0}})
    assert (found.difference, found.pairs, found.seeds, found.p, found.wilcoxon) == (None, 0, 0, None, None)
    assert compare("x", {0: {"a": 1.0}}, "y", {0: {"b": 1.0}}).difference is None
