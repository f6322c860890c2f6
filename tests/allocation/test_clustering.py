import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import cut_tree

from fedlease.allocation.clustering import cut, dendrogram, silhouette


def random_distances(clients, seed):
    points = np.random.default_rng(seed).normal(size=(clients, 3))
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


def by_hand(distances, labels):
    """The formula of section 4.1, client by client."""
    total = 0.0
    for i, own in enumerate(labels):
        mine = [distances[i, j] for j, other in enumerate(labels) if other == own and j != i]
        if not mine:
            continue
        others = set(labels) - {own}
        b = min(np.mean([distances[i, j] for j, at in enumerate(labels) if at == other]) for other in others)
        a = np.mean(mine)
        total += (b - a) / max(a, b)
    return total / len(labels)


def by_merging(distances, clusters):
    """Average linkage by its definition: join the two groups with the least mean distance."""
    groups = [[client] for client in range(len(distances))]
    while len(groups) > clusters:
        pairs = [(i, j) for i in range(len(groups)) for j in range(i)]
        i, j = min(pairs, key=lambda pair: distances[np.ix_(groups[pair[0]], groups[pair[1]])].mean())
        groups[j] += groups.pop(i)
    return {frozenset(group) for group in groups}


@pytest.mark.parametrize("seed", range(5))
def test_cuts_are_average_linkage(seed):
    distances = random_distances(9, seed)
    merges = dendrogram(distances)
    for k in range(1, 10):
        labels = cut(merges, k)
        groups = {frozenset(np.flatnonzero(np.array(labels) == label).tolist()) for label in set(labels)}
        assert groups == by_merging(distances, k)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), clients=st.integers(3, 10), data=st.data())
def test_silhouette_is_the_formula(seed, clients, data):
    distances = random_distances(clients, seed)
    labels = cut(dendrogram(distances), data.draw(st.integers(2, clients - 1)))
    assert silhouette(distances, labels) == pytest.approx(by_hand(distances, labels), abs=1e-12)


def test_cuts_are_nested_and_agree_with_scipy():
    merges = dendrogram(random_distances(12, 0))
    for k in range(1, 13):
        ours, theirs = cut(merges, k), cut_tree(merges, k)[:, 0]
        assert len(set(ours)) == k
        assert len(set(zip(ours, theirs, strict=True))) == k
        if k < 12:
            assert len(set(zip(ours, cut(merges, k + 1), strict=True))) == k + 1


def test_clusters_are_numbered_by_their_first_client():
    distances = np.ones((5, 5)) - np.eye(5)
    distances[1, 4] = distances[4, 1] = 0.1
    distances[0, 3] = distances[3, 0] = 0.2
    assert cut(dendrogram(distances), 3) == (0, 1, 2, 0, 1)


def test_ties_still_give_exactly_k_clusters():
    merges = dendrogram(np.ones((6, 6)) - np.eye(6))
    assert [len(set(cut(merges, k))) for k in range(1, 7)] == [1, 2, 3, 4, 5, 6]


def test_silhouette_of_equal_clients_is_zero():
    assert silhouette(np.zeros((4, 4)), (0, 0, 1, 1)) == 0.0
