import json

import numpy as np
import pytest
import torch
from adapters import LARGE, planted, ragged
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from fedlease.allocation import MOST_SHARED, THRESHOLD, Allocation, cluster
from fedlease.core.errors import FedLeaseError


@pytest.mark.parametrize("sizes", [(2, 2), (4, 4, 4, 4), (8, 2), (9, 3, 2), (2, 2, 2, 2, 2, 2), (12, 12, 8)])
@pytest.mark.parametrize("seed", range(2))
def test_planted_tasks_are_found(sizes, seed):
    clients, tasks = planted(sizes, noise=1.0, seed=seed)
    allocation = cluster(clients)
    assert allocation.labels == tasks  # numbered by first client, as the tasks are
    assert allocation.num_experts == len(sizes)
    assert allocation.scores[len(sizes)] == max(allocation.scores.values()) > THRESHOLD


@pytest.mark.parametrize("clients", [2, 3, 4, 5, 8, 16, 32])
@pytest.mark.parametrize("noise", [0.3, 3.0])
@pytest.mark.parametrize("kind", [("product", True), ("product", False), ("b", True), ("b", False)])
def test_clients_of_one_task_share_one_expert(clients, noise, kind):
    for seed in range(3):
        alike, _ = planted([clients], noise, seed, modules=LARGE)
        allocation = cluster(alike, distance=kind[0], centered=kind[1])
        assert allocation.num_experts == 1
        assert allocation.labels == (0,) * clients


def test_without_the_rule_one_task_is_split_as_in_the_paper():
    alike, _ = planted([8], noise=1.0, seed=0)
    allocation = cluster(alike, min_experts=2)
    assert allocation.num_experts == max(allocation.scores, key=allocation.scores.get) >= 2
    assert allocation.threshold is None
    assert allocation.shared is None


def test_where_clusters_have_most_in_common_the_threshold_decides():
    clients, tasks = planted([3, 3], noise=1.5, seed=0)
    score = max(cluster(clients).scores.values())
    assert cluster(clients, threshold=score - 1e-6, most_shared=-1.0).labels == tasks
    one = cluster(clients, threshold=score, most_shared=-1.0)
    assert (one.num_experts, one.threshold, one.labels) == (1, score, (0,) * 6)
    assert one.reason.startswith("1 expert: the highest silhouette, 0.")
    assert one.reason.endswith("-100% or more")


@pytest.mark.parametrize("seed", range(3))
def test_tasks_whose_silhouette_is_weak_are_apart_where_they_have_little_in_common(seed):
    clients, tasks = planted([4, 4, 4, 4], noise=3.5, seed=seed, modules=LARGE, common=0.3)
    allocation = cluster(clients)
    assert max(allocation.scores.values()) < THRESHOLD
    assert allocation.shared < MOST_SHARED
    assert allocation.labels == tasks
    assert "is weak, but different clusters share" in allocation.reason
    one, _ = planted([16], noise=3.5, seed=seed, modules=LARGE, common=0.3)
    assert cluster(one).num_experts == 1
    assert cluster(one).shared > MOST_SHARED


@pytest.mark.parametrize("centered", [True, False])
def test_what_clusters_share_is_the_quotient_of_mean_cosines(centered):
    clients, _ = planted([3, 2, 4], noise=1.0, seed=4)
    allocation = cluster(clients, centered=centered)
    between, within = [], []
    for i, one in enumerate(clients.values()):
        for j, other in enumerate(clients.values()):
            if i == j:
                continue
            cosines = []
            for name in {key[:-2] for key in one}:
                x, y = ((w[name + ".B"].double() @ w[name + ".A"].double()).flatten() for w in (one, other))
                cosines.append(float(x @ y / (x.norm() * y.norm())))
            same = allocation.labels[i] == allocation.labels[j]
            (within if same else between).append(np.mean(cosines))
    assert allocation.shared == pytest.approx(np.mean(between) / np.mean(within), rel=1e-9)


def test_what_all_clients_share_does_not_matter_once_centred():
    (without, tasks), (hidden, _) = (planted([4, 4, 4, 4], 1.0, 1, common=common) for common in (0.0, 6.0))
    assert cluster(hidden).labels == tasks
    near, far = (cluster(clients, distance="b") for clients in (without, hidden))
    np.testing.assert_allclose(far.distances, near.distances, atol=1e-5)
    plain = cluster(hidden, distance="b", centered=False)
    assert np.abs(plain.distances - near.distances).max() > 0.5


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), order=st.permutations(range(9)), structure=st.sampled_from([1.0, 4.0]))
def test_the_order_of_clients_does_not_matter(seed, order, structure):
    clients, _ = planted([4, 3, 2], structure, seed)
    names = list(clients)
    assert cluster({names[i]: clients[names[i]] for i in order}) == cluster(clients)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), order=st.permutations(range(9)))
def test_renaming_clients_renames_the_allocation(seed, order):
    clients, _ = planted([4, 3, 2], 1.0, seed)
    names = list(clients)
    renamed = cluster({names[new]: clients[old] for old, new in zip(names, order, strict=True)})
    moved = [renamed.label(names[new]) for new in order]
    before = cluster(clients)
    assert renamed.num_experts == before.num_experts
    assert adjusted_rand_score(moved, before.labels) == 1.0
    seen = list(dict.fromkeys(renamed.labels))
    assert seen == sorted(seen)


def test_every_number_of_experts_comes_from_one_dendrogram():
    clients, _ = planted([4, 4], noise=1.0, seed=0)
    free = cluster(clients)
    for number in range(1, 9):
        fixed = cluster(clients, num_experts=number)
        assert len(set(fixed.labels)) == fixed.num_experts == number
        np.testing.assert_array_equal(fixed.linkage, free.linkage)
        assert fixed.threshold is fixed.shared is None


def test_scores_stop_at_the_bound_and_before_one_cluster_a_client():
    clients, _ = planted([2, 2, 2], noise=0.5, seed=0)
    assert list(cluster(clients).scores) == [2, 3, 4, 5]
    assert list(cluster(clients, max_experts=3).scores) == [2, 3]
    bounded = cluster(clients, max_experts=2)
    assert bounded.num_experts == 2
    assert cluster(clients, max_experts=1).num_experts == 1
    assert min(cluster(clients, min_experts=4).labels) == 0
    assert cluster(clients, min_experts=4).num_experts >= 4


def test_two_clients_share_unless_told_otherwise():
    clients, _ = planted([1, 1], noise=0.5, seed=0)
    assert cluster(clients).labels == (0, 0)
    assert cluster(clients).scores == {}
    assert cluster(clients, min_experts=2).labels == (0, 1)
    assert cluster(clients, num_experts=2).labels == (0, 1)


def test_of_three_clients_two_can_be_told_from_the_third():
    clients, tasks = planted([2, 1], noise=0.2, seed=0)
    assert cluster(clients).labels == tasks


def test_equal_clients_are_a_tie_and_share():
    one = ragged([2], seed=0)["client-00"]
    for centered in (True, False):
        allocation = cluster(dict.fromkeys("abcd", one), centered=centered)
        assert allocation.num_experts == 1
        assert cluster(dict.fromkeys("abcd", one), centered=centered, min_experts=2).num_experts == 2


def test_members_and_labels_agree():
    clients, _ = planted([3, 2], noise=0.5, seed=0)
    allocation = cluster(clients)
    assert allocation.members(0) == ("client-00", "client-01", "client-02")
    assert allocation.members(1) == ("client-03", "client-04")
    assert allocation.label("client-03") == 1
    with pytest.raises(FedLeaseError, match="client 'newcomer' is not among the 5"):
        allocation.label("newcomer")
    with pytest.raises(FedLeaseError, match="expert 2 of 2 does not exist"):
        allocation.members(2)


@pytest.mark.parametrize("sizes", [(1, 1), (3, 3)])
def test_json_keeps_everything(sizes):
    clients, _ = planted(sizes, noise=0.5, seed=0)
    before = cluster(clients)
    after = Allocation.from_json(json.loads(json.dumps(before.to_json(), allow_nan=False)))
    assert after == before
    assert after != cluster(clients, num_experts=len(clients))
    np.testing.assert_array_equal(after.distances, before.distances)
    np.testing.assert_array_equal(after.linkage, before.linkage)
    assert after.scores == before.scores


@pytest.mark.parametrize(
    "change", [{"labels": None}, {"scores": [1]}, {"distances": [[0.0]]}, {"labels": [0]}]
)
def test_a_damaged_record_is_refused(change):
    record = cluster(planted([3, 3], noise=0.5, seed=0)[0]).to_json()
    with pytest.raises(FedLeaseError, match="not the record of an allocation"):
        Allocation.from_json({**record, **change})
    del record["linkage"]
    with pytest.raises(FedLeaseError, match="linkage"):
        Allocation.from_json(record)


@pytest.mark.parametrize(
    ("clients", "options", "message"),
    [
        (1, {}, "got 1: it needs at least 2"),
        (0, {}, "got 0: it needs at least 2"),
        (3, {"num_experts": 4}, "num_experts is 4: it must be between 1 and the 3 clients"),
        (3, {"num_experts": 0}, "num_experts is 0"),
        (3, {"min_experts": 0}, "min_experts is 0: it must be between 1 and max_experts = 8"),
        (
            3,
            {"min_experts": 3, "max_experts": 2},
            "min_experts is 3: it must be between 1 and max_experts = 2",
        ),
        (3, {"min_experts": 4}, "min_experts is 4, but there are only 3 clients"),
    ],
)
def test_impossible_numbers_are_refused(clients, options, message):
    with pytest.raises(FedLeaseError, match=message):
        cluster(ragged([2] * clients, seed=0), **options)


def test_weights_in_bfloat16_and_other_parts_are_taken_as_they_are():
    clients, tasks = planted([3, 3], noise=0.5, seed=0)
    low = {
        c: {n: t.bfloat16() for n, t in w.items()} | {"layer.router": torch.ones(3)}
        for c, w in clients.items()
    }
    assert cluster(low).labels == tasks
