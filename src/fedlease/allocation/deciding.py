"""How many experts: the highest silhouette, and whether its clusters are clusters at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fedlease.allocation.clustering import Matrix

THRESHOLD = 0.1
"""A highest silhouette not above this is weak: then the clusters must also differ, see `MOST_SHARED`.

A silhouette of 0.1 says that a client is a tenth nearer to its own cluster than to the next one.
"""

MOST_SHARED = 0.5
"""Where the silhouette is weak, clusters that share less than this of what their own clients share are apart.

What clients share is the mean cosine of their updates. Silhouettes fall the longer and the faster clients
train, for every client learns its own rows by heart. What clients of different tasks share falls with what
those of one task share, so their quotient stays: next to nothing for different tasks, most of it where
clients of one task are parted. How both lie for one task and for several is measured by
``benchmarks/allocation.py``; see docs/log.md. Where they are unsure the rule leans to more experts: parting
clients of one task costs little, since every client mixes all experts, and joining different tasks costs what
FedLEASE is for.
"""

SAME = 1e-9
"""Silhouettes nearer than this are equal, and the smaller number of experts is taken."""


def share_between(alike: Matrix, labels: Sequence[int]) -> float:
    """Return what clients of different clusters have in common, as a share of what those of one have.

    It is the mean of ``alike`` [N, N] over pairs in different clusters over its mean over pairs in one: about
    0 for tasks that have nothing to do with each other, below it for opposed ones, about 1 where the cut
    means nothing. It is 1 where clients of one cluster have nothing in common either.
    """
    own = np.asarray(labels)
    one = own[:, None] == own[None, :]
    within = float(alike[one & ~np.eye(len(own), dtype=bool)].mean())
    return float(alike[~one].mean()) / within if within > 0 else 1.0


def by_silhouette(scores: Mapping[int, float], min_experts: int) -> tuple[int, str]:
    """Return the k of the highest silhouette and the sentence that gives the reason."""
    among = {k: score for k, score in scores.items() if k >= min_experts}
    if not among:
        return min_experts, f"{counted(min_experts)}: there is no silhouette to choose more by"
    top = max(among.values())
    best = next(k for k, score in sorted(among.items()) if score >= top - SAME)
    return best, f"{counted(best)}: the highest silhouette, {among[best]:.3f} at {best} clusters, decides"


def or_one(best: int, score: float, shared: float, weak: float, most: float) -> tuple[int, str]:
    """Return M, ``best`` or 1, and the sentence that gives the reason."""
    silhouette = f"the highest silhouette, {score:.3f} at {best} clusters,"
    if score > weak:
        return best, f"{counted(best)}: {silhouette} is above {weak:g}"
    common = f"different clusters share {shared:.0%} of what clients of one have in common"
    if shared < most:
        return best, f"{counted(best)}: {silhouette} is weak, but {common}, less than {most:.0%}"
    return 1, f"{counted(1)}: {silhouette} is not above {weak:g}, and {common}, {most:.0%} or more"


def counted(number: int) -> str:
    """Return a number of experts in words."""
    return "1 expert" if number == 1 else f"{number} experts"
