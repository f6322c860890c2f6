"""A newcomer is given the expert that numpy finds from whole matrices, and nothing else changes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from adapters import LARGE, MODULES, planted, ragged

from fedlease.allocation import Allocation, cluster
from fedlease.allocation.newcomers import MOST_RANKS, TOLERANCE, Centre, centres, distances_to, join
from fedlease.core.codec import load_value, save_value
from fedlease.core.errors import FedLeaseError

KINDS = [("product", True), ("product", False), ("b", True), ("b", False)]


def by_hand(clients, allocation, newcomer, distance, centered):
    """Mean over modules of 1 - cosine between whole matrices, in float64."""

    def update(weights, name):
        b, a = (weights[f"{name}.{part}"].double().numpy() for part in "BA")
        return (b if distance == "b" else b @ a).ravel()

    far = np.zeros(allocation.num_experts)
    for name in MODULES:
        all_of_them = {client: update(weights, name) for client, weights in clients.items()}
        mean = np.mean(list(all_of_them.values()), axis=0) if centered else 0.0
        own = update(newcomer, name) - mean
        for expert in range(allocation.num_experts):
            members = [all_of_them[client] for client in allocation.members(expert)]
            centre = np.mean(members, axis=0) - mean
            norm = np.linalg.norm(own) * np.linalg.norm(centre)
            far[expert] += (1 - own @ centre / norm) / len(MODULES)
    return far


@pytest.mark.parametrize(("distance", "centered"), KINDS)
@pytest.mark.parametrize("sizes", [(4, 3, 2), (7, 1), (1, 1, 1)])
def test_distances_to_centres_are_those_of_whole_matrices(distance, centered, sizes):
    clients, _ = planted([size + 1 for size in sizes], noise=1.0, seed=3)
    last = np.cumsum([size + 1 for size in sizes]) - 1
    newcomers = {name: clients.pop(name) for name in [f"client-{number:02d}" for number in last]}
    allocation = cluster(clients, num_experts=len(sizes), distance=distance, centered=centered)
    known = centres(clients, allocation)
    assert [centre.clients for centre in known] == list(sizes)
    after = join(allocation, known, newcomers)
    for task, (name, weights) in enumerate(newcomers.items()):
        expected = by_hand(clients, allocation, weights, distance, centered)
        got = distances_to(weights, known, distance, centered)
        np.testing.assert_allclose(got, expected, atol=2e-5)
        assert after.label(name) == expected.argmin() == task


def test_ranks_may_differ_and_many_clients_take_no_more_room_than_their_mean():
    clients = ragged([2, 4, 3] * 5, seed=1)  # 45 ranks in matrices of 10 x 12
    newcomer = ragged([5], seed=2)["client-00"]
    allocation = cluster(clients, num_experts=2)
    known = centres(clients, allocation)
    expected = by_hand(clients, allocation, newcomer, "product", True)
    np.testing.assert_allclose(distances_to(newcomer, known), expected, atol=2e-5)
    large = known[int(np.argmax([centre.clients for centre in known]))]
    assert {tensor.shape[1] for name, tensor in large.weights.items() if name.endswith(".B")} == {10}


def test_what_all_clients_have_in_common_is_kept_once():
    """The mean of products with one A is that A and the mean B: rank 2, not 2 a client."""
    clients, _ = planted([6], noise=1.0, seed=0)
    first = clients["client-00"]
    shared = {
        client: {name: first[name] if name.endswith(".A") else t for name, t in weights.items()}
        for client, weights in clients.items()
    }
    (centre,) = centres(shared, cluster(shared, num_experts=1))
    for name in MODULES:
        a, b = centre.weights[f"{name}.A"], centre.weights[f"{name}.B"]
        assert a.shape[0] == b.shape[1] == 2
        whole = torch.stack([w[f"{name}.B"] @ w[f"{name}.A"] for w in shared.values()]).mean(0)
        assert torch.linalg.norm(b @ a - whole) <= 10 * TOLERANCE * torch.linalg.norm(whole)


def test_the_decision_stays_and_the_order_of_newcomers_does_not_matter():
    clients, _ = planted([4, 4], noise=1.0, seed=0)
    late = {name: clients.pop(name) for name in ("client-03", "client-07")}
    allocation = cluster(clients)
    known = centres(clients, allocation)
    after = join(allocation, known, late)
    assert replace(after, newcomers={}) == allocation
    assert after != allocation
    assert after.newcomers == {"client-03": 0, "client-07": 1}
    assert after == join(
        join(allocation, known, {"client-07": late["client-07"]}), known, dict([*late.items()][:1])
    )
    assert after.members(0) == ("client-00", "client-01", "client-02", "client-03")
    assert list(after.owners) == sorted(after.owners)
    assert ("client-07" in after, "client-07" in allocation, "nobody" in after) == (True, False, False)


def test_it_is_written_and_read_back_and_left_out_where_nobody_came_late(tmp_path: Path):
    clients, _ = planted([3, 3], noise=1.0, seed=0)
    late = {"late": clients.pop("client-05")}
    allocation = cluster(clients)
    assert "newcomers" not in allocation.to_json()
    known = centres(clients, allocation)
    after = join(allocation, known, late)
    assert Allocation.from_json(json.loads(json.dumps(after.to_json()))) == after
    save_value(after, tmp_path, "allocation")
    assert load_value(Allocation, tmp_path, "allocation") == after
    save_value(known[0], tmp_path, "centre")
    again = load_value(Centre, tmp_path, "centre")
    assert all(torch.equal(again.weights[name], known[0].weights[name]) for name in known[0].weights)


def test_a_newcomer_that_says_nothing_gets_the_first_expert():
    """An adapter of zeros, or M = 1 where the centre is the mean: the cosines count as 0."""
    clients, _ = planted([3, 3], noise=1.0, seed=0)
    zeros = {name: torch.zeros_like(tensor) for name, tensor in clients["client-00"].items()}
    for experts, centered, weights in ((1, True, clients["client-00"]), (2, False, zeros)):
        allocation = cluster(clients, num_experts=experts, centered=centered)
        known = centres(clients, allocation)
        assert distances_to(weights, known, centered=centered).tolist() == [1.0] * experts
        assert join(allocation, known, {"late": weights}).label("late") == 0


def test_what_cannot_be_is_refused():
    clients, _ = planted([3, 3], noise=1.0, seed=0)
    allocation = cluster(clients)
    known = centres(clients, allocation)
    own = clients["client-00"]
    with pytest.raises(FedLeaseError, match="client 'client-00' has expert 0 already"):
        join(allocation, known, {"client-00": own})
    with pytest.raises(FedLeaseError, match="1 centres are not those of 2 experts"):
        join(allocation, known[:1], {"late": own})
    other = {name: tensor[:, :9] if name.endswith(".A") else tensor for name, tensor in own.items()}
    with pytest.raises(FedLeaseError, match=r"module .* of client 'the newcomer' has another shape than"):
        join(allocation, known, {"late": other})
    with pytest.raises(FedLeaseError, match=r"client 'the newcomer': .* numbers that are not finite"):
        join(allocation, known, {"late": {name: tensor * float("nan") for name, tensor in own.items()}})
    with pytest.raises(ValueError, match="newcomer 'late' cannot have expert 2 of 2"):
        replace(allocation, newcomers={"late": 2})


def test_a_centre_of_many_clients_is_a_sketch_and_takes_no_more_room_with_more(tmp_path: Path):
    sizes, rank = {}, 4
    for count in (MOST_RANKS // rank, MOST_RANKS // rank + 1, 40):
        clients, _ = planted([count + 1, 5], noise=1.0, seed=4, rank=rank, modules=LARGE)
        newcomers = {name: clients.pop(name) for name in (f"client-{count:02d}", f"client-{count + 5:02d}")}
        allocation = cluster(clients, num_experts=2)
        both = centres(clients, allocation)
        known = both[allocation.labels[0]]
        save_value(known, tmp_path, "centre")
        assert load_value(Centre, tmp_path, "centre").drawn == known.drawn
        assert bool(known.drawn) == (count * rank > MOST_RANKS)
        sizes[count] = sum(tensor.numel() for tensor in known.weights.values())
        for task, (name, weights) in zip((0, 1), newcomers.items(), strict=True):
            label = allocation.labels[0] if task == 0 else 1 - allocation.labels[0]
            expected = by_hand(clients, allocation, weights, "product", True)
            np.testing.assert_allclose(distances_to(weights, both), expected, atol=0.05)
            assert join(allocation, both, {name: weights}).label(name) == label
    exact, more, most = sizes.values()
    assert more == most < exact
