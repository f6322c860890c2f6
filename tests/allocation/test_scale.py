"""Many clients: what is read when, blocks that change nothing, sketches whose error is the one stated."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from adapters import LARGE, MODULES, planted, ragged
from sklearn.metrics import adjusted_rand_score

from fedlease.allocation import Allocation, Sketch, allocating, centres, cluster, distances, join
from fedlease.allocation.deciding import share_between
from fedlease.allocation.distances import compare
from fedlease.allocation.newcomers import distances_to
from fedlease.allocation.sketches import Sketched, Sketcher
from fedlease.allocation.updates import updates_of
from fedlease.core.codec import load_value, save_value
from fedlease.core.errors import FedLeaseError

KINDS = [("product", True), ("product", False), ("b", True), ("b", False)]


class Reading(Mapping):
    """Counts how often each client is read, and hands out copies."""

    def __init__(self, held):
        self.held, self.reads = held, dict.fromkeys(held, 0)

    def __getitem__(self, client):
        self.reads[client] += 1
        return {name: tensor.clone() for name, tensor in self.held[client].items()}

    def __iter__(self):
        return iter(self.held)

    def __len__(self):
        return len(self.held)


def whole(clients, name, distance="product"):
    """Every client's update of one module as a row of numbers, float64."""
    parts = [(w[f"{name}.B"].double().numpy(), w[f"{name}.A"].double().numpy()) for w in clients.values()]
    return np.stack([(b if distance == "b" else b @ a).ravel() for b, a in parts])


def by_numpy(clients, distance, centered):
    """Mean cosines as they are, and mean distances, from whole matrices."""
    alike, total = np.zeros((2, len(clients), len(clients)))
    for name in MODULES:
        rows = whole(clients, name, distance)
        alike += cosine(rows)
        total += 1 - cosine(rows - rows.mean(axis=0) if centered else rows)
    return alike / len(MODULES), total / len(MODULES)


def cosine(rows):
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return units @ units.T


@pytest.mark.parametrize(("distance", "centered"), KINDS)
@pytest.mark.parametrize("block", [1, 3, 4])
def test_blocks_are_exact_and_read_as_often_as_there_are_pairs_of_them(
    monkeypatch, distance, centered, block
):
    clients, _ = planted([4, 3, 3], noise=1.0, seed=5)
    bytes_of_one = sum(12 * 2 + (2 * 10 if distance == "product" else 0) for _ in MODULES) * 8
    monkeypatch.setattr(distances, "BLOCK_BYTES", block * bytes_of_one)
    held = Reading(clients)
    found = compare(held, distance, centered)
    alike, expected = by_numpy(clients, distance, centered)
    np.testing.assert_allclose(found.distances, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.alike, alike, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found.distances, found.distances.T)
    blocks = -(-10 // block)
    assert held.reads["client-00"] == blocks
    assert (
        held.reads[f"client-{block:02d}"] == blocks
    )  # one less, and once to see that the first block is full
    assert held.reads["client-09"] == 1


def test_what_fits_in_one_block_is_read_once():
    held = Reading(planted([3, 3], noise=1.0, seed=0)[0])
    assert cluster(held) == cluster(held.held)
    assert set(held.reads.values()) == {1}


def test_clients_of_a_later_block_are_checked_too(monkeypatch):
    monkeypatch.setattr(distances, "BLOCK_BYTES", 1)
    clients = ragged([2, 2, 2], seed=0)
    clients["client-02"]["layer.0.query.A"] = torch.ones(2, 9)
    with pytest.raises(FedLeaseError, match=r"'layer.0.query' of client 'client-02' has another shape than"):
        cluster(clients)
    with pytest.raises(FedLeaseError, match=r"'layer.0.query' of client 'client-02' has another shape than"):
        cluster(clients, sketch=16)


def test_inner_products_of_sketches_are_right_on_average():
    clients, _ = planted([2], noise=1.0, seed=1, modules={"m": (40, 30)})
    exact = float(np.prod(whole_pair(clients), axis=0).sum())
    updates = [updates_of(client, weights, "product") for client, weights in clients.items()]
    drawn = []
    for seed in range(300):
        sketcher = Sketcher(updates[0], 64, seed)
        left, right = (sketcher(update).astype(np.float64) for update in updates)
        drawn.append(float(left @ right))
    error = np.std(drawn) / np.sqrt(len(drawn))
    assert error < 0.02 * exact  # else the next line could not fail
    assert abs(np.mean(drawn) - exact) < 4 * error


def whole_pair(clients):
    return [(w["m.B"].double() @ w["m.A"].double()).numpy() for w in clients.values()]


@pytest.mark.parametrize(("distance", "centered"), KINDS)
def test_a_sketch_of_every_entry_loses_nothing(distance, centered):
    clients, _ = planted([3, 2, 2], noise=0.7, seed=0)
    alike, expected = by_numpy(clients, distance, centered)
    found = Sketched(clients, distance, centered, size=12 * 10, seed=3)
    np.testing.assert_allclose(found.distances, expected, rtol=0, atol=2e-6)
    labels = (0, 0, 0, 1, 1, 2, 2)
    assert found.share_between(labels) == pytest.approx(share_between(alike, labels), abs=1e-5)


@pytest.mark.parametrize(("distance", "centered"), KINDS)
def test_the_error_falls_with_the_size_and_is_the_one_stated(distance, centered):
    clients, tasks = planted([6, 5, 5], noise=1.5, seed=2, modules=LARGE)
    exact = compare(clients, distance, centered).distances
    pairs = np.triu_indices(len(exact), 1)
    errors = {}
    for size in (16, 64, 4 * 64):
        found = cluster(clients, distance=distance, centered=centered, sketch=size, seed=7)
        errors[size] = float(np.sqrt(np.mean((found.distances - exact)[pairs] ** 2)))
        assert found.sketch == Sketch(size, 7, pytest.approx(errors[size], rel=1e-6), 16)
        assert errors[size] < 1.5 / np.sqrt(size * len(LARGE))
    if distance == "product":  # of B, 192 numbers a module, the largest size takes all
        assert errors[256] < errors[64] < errors[16]
    else:
        assert errors[256] < 1e-6 < errors[64] < errors[16]
    assert adjusted_rand_score(tasks, found.labels) == 1.0


def test_sketches_do_not_depend_on_order_and_depend_on_the_seed():
    clients, _ = planted([4, 4], noise=1.0, seed=0)
    first = cluster(clients, sketch=16)
    assert cluster(dict(reversed(clients.items())), sketch=16) == first
    assert not np.array_equal(cluster(clients, sketch=16, seed=1).distances, first.distances)
    assert first != cluster(clients)
    assert "sketch" not in cluster(clients).to_json()


def test_beyond_a_number_of_clients_it_is_by_sketches_and_distances_are_not_kept(monkeypatch, tmp_path):
    clients, tasks = planted([5, 4], noise=1.0, seed=0, modules=LARGE)
    monkeypatch.setattr(allocating, "MOST_EXACT", 8)
    found = cluster(clients)
    assert found.distances is None
    assert (found.sketch.size, found.sketch.checked, found.labels) == (1024, 9, tasks)
    assert Allocation.from_json(found.to_json()) == found
    save_value(found, tmp_path, "allocation")
    assert load_value(Allocation, tmp_path, "allocation") == found
    exact = cluster(clients, sketch=0)
    assert exact.distances is None
    assert exact.sketch is None
    with pytest.raises(FedLeaseError, match="sketch is -1: it must be at least 1, or 0 to compare exactly"):
        cluster(clients, sketch=-1)


def test_memory_grows_by_sketches_not_by_clients():
    one = ragged([2], seed=0)["client-00"]
    wide = {name: tensor.repeat(1, 400) if name.endswith(".A") else tensor for name, tensor in one.items()}
    numbers = sum(tensor.numel() for tensor in wide.values())  # 66 thousand a client

    class Made(Reading):
        def __getitem__(self, client):
            self.reads[client] += 1
            return {name: tensor * (1 + len(client)) for name, tensor in wide.items()}

    held = Made({"a" * length: None for length in range(1, 121)})
    tracemalloc.start()
    Sketched(held, "product", False, size=32, seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(held.reads.values()) == len(held) + 1  # the first tells the shapes
    assert peak < len(held) * numbers * 8 / 8


@pytest.mark.parametrize(("distance", "centered"), KINDS)
def test_newcomers_are_compared_with_sketched_centres(tmp_path, distance, centered):
    clients, _ = planted([6, 5, 5], noise=1.0, seed=4, modules=LARGE)
    late = {name: clients.pop(name) for name in ("client-00", "client-06", "client-11")}
    exact = cluster(clients, num_experts=3, distance=distance, centered=centered)
    found = cluster(clients, num_experts=3, distance=distance, centered=centered, sketch=256)
    known = centres(clients, found)
    for weights in late.values():
        expected = distances_to(weights, centres(clients, exact), distance, centered)
        got = distances_to(weights, known, distance, centered, found.sketch)
        np.testing.assert_allclose(got, expected, atol=4 / np.sqrt(256 * len(LARGE)))
    after = join(found, known, late)
    assert list(after.newcomers.values()) == [0, 1, 2]
    assert known[0].weights["layer.0.query.sketch"].shape == ((192,) if distance == "b" else (256,))
    other = {name: t[:9] if name.endswith(".B") else t for name, t in late["client-00"].items()}
    with pytest.raises(FedLeaseError, match="of client 'the newcomer' has another shape"):
        join(found, known, {"x": other})
    save_value(known[0], tmp_path, "centre")
    again = load_value(type(known[0]), tmp_path, "centre")
    assert join(found, (again, *known[1:]), late) == after


def test_centres_are_not_compared_with_each_other_again(monkeypatch):
    from fedlease.allocation import newcomers

    clients, _ = planted([4, 4, 4], noise=1.0, seed=0)
    late = clients.pop("client-00")
    found = cluster(clients)
    known = centres(clients, found)
    bare = tuple(replace(centre, products=None) for centre in known)  # as older checkpoints have them
    np.testing.assert_allclose(distances_to(late, known), distances_to(late, bare), atol=1e-12)
    pairs = []
    real = newcomers.inner_products

    def counting(left, right):
        pairs.append(len(left) * len(right))
        return real(left, right)

    monkeypatch.setattr(newcomers, "inner_products", counting)
    distances_to(late, known)
    assert pairs == [found.num_experts + 1] * len(MODULES)
