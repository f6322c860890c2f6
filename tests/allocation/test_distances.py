import numpy as np
import pytest
import torch
from adapters import MODULES, planted, ragged
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlease.allocation import client_distances, inner_products
from fedlease.core.errors import FedLeaseError

KINDS = [("b", False), ("b", True), ("product", False), ("product", True)]


def written_out(clients, distance, centered):
    """Eq. 2 with every update as a full matrix, the mean taken out of the matrices themselves."""
    total = np.zeros((len(clients), len(clients)))
    for name in MODULES:
        vectors = []
        for weights in clients.values():
            update = weights[f"{name}.B"].numpy().astype(np.float64)
            if distance == "product":
                update = update @ weights[f"{name}.A"].numpy().astype(np.float64)
            vectors.append(update.ravel())
        if centered:
            vectors = [vector - np.mean(vectors, axis=0) for vector in vectors]
        for i, x in enumerate(vectors):
            for j, y in enumerate(vectors):
                total[i, j] += 1 - x @ y / np.sqrt((x @ x) * (y @ y))
    return total / len(MODULES)


@pytest.mark.parametrize(("distance", "centered"), KINDS)
def test_distances_are_those_of_the_full_matrices(distance, centered):
    clients, _ = planted([3, 2, 2], noise=0.7, seed=0)
    expected = written_out(clients, distance, centered)
    assert expected[0, 5] > 0.3  # there is something to get wrong
    np.testing.assert_allclose(client_distances(clients, distance, centered), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("centered", [False, True])
def test_product_compares_clients_of_different_ranks(centered):
    clients = ragged([1, 4, 2, 2, 3], seed=1)
    expected = written_out(clients, "product", centered)
    np.testing.assert_allclose(client_distances(clients, "product", centered), expected, rtol=0, atol=1e-12)


def test_inner_products_go_in_blocks_of_any_two_groups():
    random = np.random.default_rng(0)
    left = [(random.normal(size=(6, r)), random.normal(size=(r, 5))) for r in (1, 3, 2)]
    right = [(random.normal(size=(6, r)), random.normal(size=(r, 5))) for r in (2, 1)]
    expected = [[np.sum((b1 @ a1) * (b2 @ a2)) for b2, a2 in right] for b1, a1 in left]
    np.testing.assert_allclose(inner_products(left, right), expected, atol=1e-12)


def test_centring_survives_a_mean_that_dwarfs_the_differences():
    clients, _ = planted([3, 3], noise=0.5, seed=2, common=300.0)
    expected = written_out(clients, "b", True)
    np.testing.assert_allclose(client_distances(clients, "b", True), expected, atol=1e-8)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(KINDS), clients=st.integers(2, 6))
def test_distances_are_symmetric_with_a_zero_diagonal_within_0_and_2(seed, kind, clients):
    distances = client_distances(ragged([2] * clients, seed), *kind)
    assert distances.dtype == np.float64
    np.testing.assert_array_equal(distances, distances.T)
    np.testing.assert_array_equal(np.diag(distances), 0.0)
    assert distances.min() >= 0
    assert distances.max() <= 2


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.05, 20), centered=st.booleans())
def test_product_does_not_see_how_an_update_is_factored(seed, scale, centered):
    clients = ragged([2, 2, 2, 2], seed)
    mix = torch.linalg.qr(torch.randn(2, 2, generator=torch.Generator().manual_seed(seed)).double()).Q * scale
    other = {name: dict(weights) for name, weights in clients.items()}
    for name in MODULES:
        held = other["client-01"]
        held[f"{name}.B"] = held[f"{name}.B"].double() @ mix
        held[f"{name}.A"] = torch.linalg.inv(mix) @ held[f"{name}.A"].double()
    before, after = (client_distances(group, "product", centered) for group in (clients, other))
    np.testing.assert_allclose(before, after, atol=1e-10)


def test_b_sees_how_an_update_is_factored():
    clients, _ = planted([3], noise=0.3, seed=3)
    before = client_distances(clients, "b", False)
    for name in MODULES:
        clients["client-01"][f"{name}.B"] = clients["client-01"][f"{name}.B"].flip(1)
        clients["client-01"][f"{name}.A"] = clients["client-01"][f"{name}.A"].flip(0)
    assert np.abs(client_distances(clients, "b", False) - before)[0, 1] > 0.1


def test_b_needs_no_a():
    clients, _ = planted([2, 2], noise=0.5, seed=0)
    without = {c: {k: t for k, t in w.items() if k.endswith(".B")} for c, w in clients.items()}
    np.testing.assert_array_equal(client_distances(without, "b"), client_distances(clients, "b"))


def test_a_module_without_update_says_nothing():
    clients = ragged([2, 2, 2], seed=4)
    silent = next(iter(MODULES))
    expected = client_distances(clients, "product", False) * len(MODULES)
    one = {c: {k: t for k, t in w.items() if k.startswith(silent)} for c, w in clients.items()}
    expected += 1 - np.eye(3) - client_distances(one, "product", False)  # its distance becomes 1
    for weights in clients.values():
        weights[f"{silent}.B"] = torch.zeros_like(weights[f"{silent}.B"])
    np.testing.assert_allclose(
        client_distances(clients, "product", False), expected / len(MODULES), atol=1e-12
    )


def test_equal_clients_have_nothing_left_after_centring():
    same = ragged([2], seed=0)["client-00"]
    distances = client_distances({"a": same, "b": same, "c": same}, "product", True)
    np.testing.assert_array_equal(distances, 1 - np.eye(3))


def broken(change):
    clients = ragged([2, 2, 2], seed=0)
    change(clients["client-01"], next(iter(MODULES)))
    return clients


def drop_module(weights, name):
    del weights[f"{name}.A"], weights[f"{name}.B"]


def add_module(weights, name):
    weights["extra.A"], weights["extra.B"] = weights[f"{name}.A"], weights[f"{name}.B"]


def zero(weights, name):
    weights.update({key: torch.zeros_like(t) for key, t in weights.items() if key.endswith(".B")})


FAULTS = {
    "not adapted": (
        drop_module,
        r"module 'layer.0.query' .* by client 'client-00' but not by client 'client-01'",
    ),
    "adapted alone": (add_module, r"module 'extra' .* by client 'client-01' but not by client 'client-00'"),
    "no A": (lambda w, n: w.pop(f"{n}.A"), r"client 'client-01' sent no A for module 'layer.0.query'"),
    "no B": (lambda w, n: w.pop(f"{n}.B"), r"client 'client-01' sent no B for module 'layer.0.query'"),
    "nothing": (lambda w, n: w.clear(), r"client 'client-01' sent no LoRA weights"),
    "shape": (
        lambda w, n: w.update({f"{n}.B": torch.ones(9, 2)}),
        r"module 'layer.0.query' of client 'client-01' has another shape than that of 'client-00'",
    ),
    "ranks": (
        lambda w, n: w.update({f"{n}.A": torch.ones(3, 10)}),
        r"client 'client-01': the ranks of module",
    ),
    "stacked": (
        lambda w, n: w.update({f"{n}.A": torch.ones(4, 2, 10)}),
        r"'client-01'.* not a matrix of one expert",
    ),
    "not finite": (
        lambda w, n: w[f"{n}.B"].__setitem__((0, 0), float("nan")),
        r"client 'client-01': 'layer.0.query.B' has numbers that are not finite",
    ),
    "untrained": (zero, r"client 'client-01' sent an update of zero: train it first"),
}


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_compared_is_named(fault, centered):
    change, message = FAULTS[fault]
    with pytest.raises(FedLeaseError, match=message) as raised:
        client_distances(broken(change), "product", centered)
    assert "\n" not in str(raised.value)


def test_b_needs_equal_ranks():
    with pytest.raises(
        FedLeaseError, match="client 'client-01' has another shape or rank than that of 'client-00'"
    ):
        client_distances(ragged([2, 3], seed=0), "b", False)


def test_an_unknown_distance_is_refused():
    with pytest.raises(FedLeaseError, match="distance is 'cosine': it must be one of b, product"):
        client_distances(ragged([2, 2], seed=0), "cosine")
