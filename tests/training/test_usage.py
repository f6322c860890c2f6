"""Which experts are used, against the router written out with numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from fedlease.core.adapter import Adapter, Model
from fedlease.tasks import classification
from fedlease.tasks.base import Encoded
from fedlease.training import usage as module
from fedlease.training.base import Base, load_base
from fedlease.training.loop import Training
from fedlease.training.precision import Plan
from fedlease.training.resident import Resident
from fedlease.training.site import TorchSite


@pytest.fixture(scope="module")
def base(tiny: Path) -> Base:
    return load_base(str(tiny), labels=[2], seed=0, plan=Plan("cpu", "float64", "eager", 1, ""))


def rows(count: int) -> Encoded:
    """Texts of 3 to 11 random tokens."""
    random = torch.Generator().manual_seed(count)
    ids = [torch.randint(2000, 9000, (3 + 3 * row % 9,), generator=random).tolist() for row in range(count)]
    return Encoded(tuple(ids), tuple([0] * len(text) for text in ids), tuple(row % 2 for row in range(count)))


def site(base: Base, data: Encoded, batch: int = 4) -> TorchSite:
    settings = Training(score_batch_size=batch)
    return TorchSite("bank", Resident(base), classification, rows(3), data, 2, settings, 7)


def mixture(base: Base, experts: int = 3, assigned: int = 1, **rule: Any) -> Model:
    random, rank = torch.Generator().manual_seed(5), 2
    adapter = Adapter(rank, experts=experts, assigned=assigned, **rule)
    weights = {}
    for path, (l, d) in base.modules.items():  # noqa: E741
        shapes = {"A": (experts, rank, d), "B": (experts, l, rank), "router": (adapter.slots, d)}
        for kind, shape in shapes.items():
            weights[f"{path}.{kind}"] = 0.4 * torch.randn(shape, generator=random)
    return Model(adapter, weights)


def by_hand(inputs: np.ndarray, router: np.ndarray, adapter: Adapter) -> tuple[float, list[float], float]:
    """Experts a token uses, mean weights in expert order and mean entropy, for inputs [tokens, d]."""
    M, used, sums, bits = adapter.experts, 0, np.zeros(adapter.experts), 0.0
    others = [expert for expert in range(M) if expert != adapter.assigned]
    own = 1 if adapter.top_k else M
    expert_of = [adapter.assigned] * own + others
    for x in inputs:
        logits = router @ x
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        kept = np.argsort(-logits)[: adapter.top_k or M]
        total = shares[kept].sum() if adapter.normalize else 1.0
        used += len({expert_of[slot] for slot in kept})
        weights = np.zeros(M)
        for slot in kept:
            weights[expert_of[slot]] += shares[slot] / total
        sums += weights
        bits += float(entropy(weights, base=2))  # scipy rescales to a sum of 1
    return used / len(inputs), list(sums / len(inputs)), bits / len(inputs)


@pytest.mark.parametrize(
    "rule", [{}, {"normalize": True}, {"top_k": 1}, {"top_k": 2, "normalize": True}, {"assigned": 0}]
)
def test_usage_is_that_of_the_router_written_out(base: Base, rule: dict[str, Any]) -> None:
    data, model = rows(7), mixture(base, **rule)
    here = site(base, data)
    found = here.usage(model)
    assert found.keys() == base.modules.keys()
    network = here.resident.put(model, 2).eval()
    hidden: list[list[np.ndarray]] = []
    for row in range(len(data)):  # one row at a time: no padding anywhere
        batch = classification.collate(data, [row], 0)
        batch.pop("labels")
        with torch.no_grad():
            states = network(**batch, output_hidden_states=True).hidden_states
        hidden.append([state[0].numpy() for state in states])
    for path, used in found.items():
        layer = int(path.split("layer.")[1].split(".")[0])  # query and value read what enters the layer
        inputs = np.concatenate([states[layer] for states in hidden])
        router = model.weights[f"{path}.router"].double().numpy()
        experts, weights, bits = by_hand(inputs, router, model.adapter)
        assert used.experts == pytest.approx(experts, abs=1e-6)
        assert used.entropy == pytest.approx(bits, abs=2e-6)
        np.testing.assert_allclose(used.weights, weights, atol=2e-6)


def test_batches_and_padding_change_nothing(base: Base) -> None:
    model, data = mixture(base), rows(9)
    alone, together = site(base, data, 1).usage(model), site(base, data, 9).usage(model)
    for path, used in alone.items():
        assert together[path].experts == used.experts
        np.testing.assert_allclose(together[path].weights, used.weights, atol=2e-6)
        assert together[path].entropy == pytest.approx(used.entropy, abs=2e-6)
    assert site(base, data, 4).usage(model) == site(base, data, 4).usage(model)


def test_only_the_first_rows_are_looked_at(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = mixture(base), rows(9)
    monkeypatch.setattr(module, "MOST_ROWS", 5)
    short = Encoded(data.input_ids[:5], data.token_type_ids[:5], data.labels[:5])  # type: ignore[index]
    assert site(base, data).usage(model) == site(base, short).usage(model)


def test_a_module_that_sees_one_vector_a_row_counts_rows() -> None:
    counts = module._Counts()
    counts.mask = torch.tensor([[True, True, False], [True, False, False]])
    counts.add("pooler", torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    counts.add("flat", torch.tensor([[1.0, 0.0], [0.5, 0.5], [9, 9], [0, 1.0], [9, 9], [9, 9]]))
    assert counts.of("pooler") == module.Usage(1.5, (0.75, 0.25), 0.5)
    assert counts.of("flat") == module.Usage(round(4 / 3, 6), (0.5, 0.5), round(1 / 3, 6))


def test_without_a_router_there_is_nothing_to_tell_and_no_hook_stays(base: Base) -> None:
    data = rows(3)
    plain = {name: tensor[0] for name, tensor in mixture(base).weights.items() if name[-1] in "AB"}
    assert site(base, data).usage(Model(Adapter(2), plain)) == {}
    here = site(base, data)
    here.usage(mixture(base))
    assert not any(layer._forward_pre_hooks for layer in base.model.modules())
