"""Means with their spread over seeds, and paired tests of one row of a table against another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import NamedTuple

from scipy import stats

Scores = Mapping[int, Mapping[str, float]]
"""Seed -> client -> score in percent."""

EQUAL = 9
"""Differences are compared to so many decimals: less is rounding."""

FEWEST_SEEDS = 3
"""From so many seeds on, their averages are tested too."""


class Summary(NamedTuple):
    """Values of several seeds: their mean, their sample deviation (None with one seed), how many they are."""

    mean: float
    deviation: float | None
    seeds: int


@dataclass(frozen=True)
class Comparison:
    """One row against another, over the clients and seeds that both have.

    All tests are two-sided and paired; a p value is None where it is undefined.

    Attributes:
        row, against: the two rows.
        difference: row less against in percentage points: mean over clients, then over seeds; None with
            nothing in common.
        pairs: how many pairs (seed, client) both have.
        p: of the t test over those pairs. Clients of one seed share a model: the pairs are not independent
            and the value is optimistic.
        wilcoxon: of Wilcoxon's signed-rank test over the same pairs.
        p_seeds: of the t test over the averages of the seeds, from three common seeds on.
    """

    row: str
    against: str
    difference: Summary | None
    pairs: int
    p: float | None
    wilcoxon: float | None
    p_seeds: float | None

    @property
    def seeds(self) -> int:
        """How many seeds both have."""
        return 0 if self.difference is None else self.difference.seeds


def summary(values: Sequence[float]) -> Summary | None:
    """Mean and sample deviation (ddof = 1) of one value a seed; None without any."""
    if not values:
        return None
    return Summary(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


def compare(row: str, scores: Scores, against: str, others: Scores) -> Comparison:
    """Compare two rows over what they have in common."""
    common = {
        seed: sorted(scores[seed].keys() & others[seed].keys())
        for seed in sorted(scores.keys() & others.keys())
    }
    pairs = [
        (scores[seed][client], others[seed][client]) for seed, clients in common.items() for client in clients
    ]
    averages = [
        (fmean(scores[seed][client] for client in clients), fmean(others[seed][client] for client in clients))
        for seed, clients in common.items()
        if clients
    ]
    return Comparison(
        row=row,
        against=against,
        difference=summary([own - other for own, other in averages]),
        pairs=len(pairs),
        p=t_test(pairs),
        wilcoxon=wilcoxon_test(pairs),
        p_seeds=t_test(averages) if len(averages) >= FEWEST_SEEDS else None,
    )


def t_test(pairs: Sequence[tuple[float, float]]) -> float | None:
    """p of the two-sided paired t test; None for fewer than two pairs, or when all differ by the same."""
    differences = {round(own - other, EQUAL) for own, other in pairs}
    if len(differences) < 2:
        return None
    own, other = zip(*pairs, strict=True)
    return float(stats.ttest_rel(own, other).pvalue)


def wilcoxon_test(pairs: Sequence[tuple[float, float]]) -> float | None:
    """p of Wilcoxon's two-sided signed-rank test; None for fewer than two pairs, or without a difference."""
    differences = [round(own - other, EQUAL) for own, other in pairs]  # so that ties are ties
    if len(differences) < 2 or not any(differences):
        return None
    return float(stats.wilcoxon(differences).pvalue)
