"""Folding against numpy on full matrices, and the parts of a mixture by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from trained import deployed

from fedlease.core.adapter import Adapter, Model
from fedlease.core.errors import FedLeaseError
from fedlease.experiments.results import Run
from fedlease.tuner import FedLeaseLayer
from fedlease.use.finished import open_run
from fedlease.use.fold import decomposed, expected, fold
from fedlease.use.nearest import nearest
from fedlease.use.parts import evenly, expert, side_by_side

SHAPES = {"first": (9, 14), "second": (12, 5)}  # outputs, inputs


def mixture(experts: int = 3, rank: int = 4, shared_a: bool = False) -> Model:
    random = torch.Generator().manual_seed(1)
    adapter = Adapter(rank, alpha=6.0, experts=experts, assigned=1, shared_a=shared_a)
    weights = {}
    for path, (l, d) in SHAPES.items():  # noqa: E741
        shapes = {"A": (experts, rank, d), "B": (experts, l, rank), "router": (adapter.slots, d)}
        shapes["A"] = shapes["A"][1:] if shared_a else shapes["A"]
        weights |= {f"{path}.{kind}": torch.randn(s, generator=random) for kind, s in shapes.items()}
    return Model(adapter, weights)


def update(model: Model, path: str) -> np.ndarray:
    """``alpha / r B A`` of an adapter of one expert, in float64."""
    A, B = (model.weights[f"{path}.{part}"].double().numpy() for part in "AB")
    return model.adapter.alpha / model.adapter.rank * B @ A


def full(model: Model, path: str, weights: list[float]) -> np.ndarray:
    A, B = (model.weights[f"{path}.{part}"].double().numpy() for part in "AB")
    A = A if A.ndim == 3 else [A] * len(B)
    return sum(w * 6.0 / 4 * b @ a for w, a, b in zip(weights, A, B, strict=True))


@pytest.mark.parametrize("shared_a", [False, True])
@pytest.mark.parametrize("rank", [1, 3, 7, 12, 50])
def test_a_fold_is_the_truncated_svd_of_the_full_matrix(rank: int, shared_a: bool) -> None:
    model = mixture(shared_a=shared_a)
    weights = {"first": [0.5, 0.3, 0.2], "second": [0.1, 0.0, 0.9]}
    folded = fold(side_by_side(model, weights), rank)
    kept = min(rank, 12)
    assert folded.model.adapter == Adapter(kept, alpha=float(kept))
    cut, whole = 0.0, 0.0
    for path in SHAPES:
        matrix = full(model, path, weights[path])
        U, S, V = np.linalg.svd(matrix, full_matrices=False)
        nearest = (U[:, :kept] * S[:kept]) @ V[:kept]
        np.testing.assert_allclose(update(folded.model, path), nearest, rtol=0, atol=1e-5)
        cut, whole = cut + (S[kept:] ** 2).sum(), whole + (S**2).sum()
        assert {tuple(folded.model.weights[f"{path}.{part}"].shape) for part in "AB"} == {
            (kept, SHAPES[path][1]),
            (SHAPES[path][0], kept),
        }
    assert folded.lost == pytest.approx((cut / whole) ** 0.5, abs=1e-7)


def test_no_full_matrix_is_made() -> None:
    """Of 100,000 x 100,000 numbers there would be 80 GB."""
    random = torch.Generator().manual_seed(0)
    B, A = torch.randn(100_000, 3, generator=random), torch.randn(3, 100_000, generator=random)
    left, values, right = decomposed(B, A)
    assert (left.shape, values.shape, right.shape) == ((100_000, 3), (3,), (3, 100_000))
    rows, columns = [0, 77, 99_999], [5, 50_000]
    wanted = B[rows].double() @ A[:, columns].double()
    torch.testing.assert_close(left[rows] * values @ right[:, columns], wanted)


def test_experts_alone_and_even_mixtures() -> None:
    model = mixture()
    for path in SHAPES:
        for index in range(3):
            one = [float(index == other) for other in range(3)]
            np.testing.assert_allclose(update(expert(model, index), path), full(model, path, one), rtol=1e-6)
        thirds = full(model, path, [1 / 3] * 3)
        np.testing.assert_allclose(update(evenly(model), path), thirds, rtol=0, atol=1e-5)


def test_what_cannot_be_taken_apart() -> None:
    model = mixture()
    with pytest.raises(FedLeaseError, match="there is no expert 3, there are 3"):
        expert(model, 3)
    with pytest.raises(FedLeaseError, match="module first needs a weight for each of the 3 experts"):
        side_by_side(model, {"first": [1.0]})
    with pytest.raises(FedLeaseError, match="put its experts side by side first"):
        fold(model, 2)
    with pytest.raises(FedLeaseError, match="rank is 0"):
        fold(evenly(model), 0)


@torch.no_grad()
def test_the_nearest_linear_map_is_that_of_least_squares(run: Run) -> None:
    """The same fit as one least-squares problem in numpy, whose last rows are the ridge."""
    finished = open_run(run.folder)
    model = finished.model("tone-0")
    found = nearest(finished.site("tone-0"), model, ridge=0.05)
    assert found.adapter == Adapter(4, alpha=4.0)
    site, network = deployed(run, "tone-0")
    layers = {path: layer for path, layer in network.named_modules() if isinstance(layer, FedLeaseLayer)}
    seen: dict[str, list[torch.Tensor]] = {path: [] for path in layers}
    for path, layer in layers.items():
        layer.register_forward_pre_hook(lambda _, inputs, path=path: seen[path].append(inputs[0][0]))
    for row in range(len(site.train_rows)):  # one at a time: no padding
        batch = site.task.collate(site.train_rows, [row], 0)
        batch.pop("labels")
        network(**batch)
    for path, layer in layers.items():
        tokens = torch.cat(seen[path])
        x, w = tokens.double().numpy(), layer.weights_of(tokens, layer.active_adapters[0]).double().numpy()
        A, B = (model.weights[f"{path}.{part}"].double().numpy() for part in "AB")
        z = np.concatenate([w[:, m : m + 1] * (x @ A[m].T) for m in range(2)], 1)
        start = np.concatenate([w[:, m].mean() * A[m] for m in range(2)])
        root = np.sqrt(0.05 * (x**2).sum() / x.shape[1])
        inputs = np.concatenate([x, root * np.eye(x.shape[1])])
        fitted = np.linalg.lstsq(inputs, np.concatenate([z, root * start.T]), rcond=None)[0].T
        wanted = 16 / 2 * np.concatenate(B, 1) @ fitted
        np.testing.assert_allclose(update(found, path), wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
        off = np.abs(x @ (update(found, path) - full_of(A, B, w.mean(0))).T).max()
        assert off > 1e-3  # it is not the mean weights' mixture


def full_of(A: np.ndarray, B: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return sum(w * 16 / 2 * b @ a for w, a, b in zip(weights, A, B, strict=True))


@torch.no_grad()
def test_the_expected_mixture_has_the_mean_weights_of_the_training_tokens(run: Run) -> None:
    finished = open_run(run.folder)
    model = finished.model("tone-0")
    found = expected(finished.site("tone-0"), model)
    site, network = deployed(run, "tone-0")
    layers = {path: layer for path, layer in network.named_modules() if isinstance(layer, FedLeaseLayer)}
    weights: dict[str, list[torch.Tensor]] = {path: [] for path in layers}

    def keep(path: str, layer: FedLeaseLayer, x: torch.Tensor) -> None:
        weights[path].append(layer.weights_of(x, layer.active_adapters[0])[0])

    for path, layer in layers.items():
        layer.register_forward_pre_hook(
            lambda layer, inputs, path=path: keep(path, layer, inputs[0])  # type: ignore[misc]
        )
    for row in range(len(site.train_rows)):  # one at a time: no padding
        batch = site.task.collate(site.train_rows, [row], 0)
        batch.pop("labels")
        network(**batch)
    for path in layers:
        mean = torch.cat(weights[path]).double().mean(0).numpy()
        A, B = (model.weights[f"{path}.{part}"].double().numpy() for part in "AB")
        np.testing.assert_allclose(update(found, path), full_of(A, B, mean), rtol=0, atol=2e-5)
