"""The optimisation loop against one written out with PEFT and AdamW; seeds; schedules; precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification

from fedlease.core.adapter import Adapter, Learn, Model, lora_init
from fedlease.core.errors import FedLeaseError
from fedlease.core.seeds import derive, generator
from fedlease.tasks import classification
from fedlease.tasks.base import Encoded
from fedlease.tasks.batching import batches
from fedlease.training import loop
from fedlease.training.base import Base, load_base
from fedlease.training.loop import Training
from fedlease.training.precision import Plan, choose
from fedlease.training.resident import Resident
from fedlease.training.site import TorchSite

PLAN = Plan("cpu", "float32", "eager", 1, "")


@pytest.fixture(scope="module")
def base(tiny: Path) -> Base:
    return load_base(str(tiny), labels=[2, 3], seed=0, plan=PLAN)


def rows(count: int) -> Encoded:
    """Sentences of random tokens and lengths; the label says whether token 1500 is among them."""
    random = torch.Generator().manual_seed(count)
    ids, labels = [], []
    for row in range(count):
        length = 4 + int(torch.randint(8, (), generator=random))
        text = torch.randint(2000, 9000, (length,), generator=random).tolist()
        labels.append(row % 2)
        ids.append([101, *text, *([1500, 1500] if row % 2 else []), 102])
    return Encoded(tuple(ids), tuple([0] * len(text) for text in ids), tuple(labels))


def site(base: Base, settings: Training, count: int = 20, client: str = "bank") -> TorchSite:
    return TorchSite(client, Resident(base), classification, rows(count), rows(6), 2, settings, 7)


@pytest.mark.parametrize(
    ("schedule", "max_grad_norm", "micro"),
    [("linear", 0.0, None), ("constant", 0.05, None), ("linear", 0.05, 4), ("constant", 0.0, 1)],
)
def test_training_is_that_of_peft_and_adamw_written_out(
    tiny: Path, schedule: Any, max_grad_norm: float, micro: Any
) -> None:
    settings = Training(0.01, 6, 2, 0.1, schedule, max_grad_norm, 2, micro_batch_size=micro)
    base = load_base(str(tiny), labels=[2], seed=0, plan=PLAN)
    start = lora_init(base.modules, 3, 1)
    trained = site(base, settings).train(Model(Adapter(3, 12.0), start), Learn(("A", "B"), round=4))

    stock = AutoModelForSequenceClassification.from_pretrained(tiny, attn_implementation="eager")
    stock.classifier.load_state_dict(base.heads[2].state_dict())
    for module in stock.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model = get_peft_model(stock, LoraConfig(r=3, lora_alpha=12, target_modules=["query", "value"]))
    names = {}
    for path in base.modules:
        layer = stock.get_submodule(path)
        for part, matrix in (("A", layer.lora_A["default"]), ("B", layer.lora_B["default"])):
            matrix.weight.data.copy_(start[f"{path}.{part}"])
            names[f"{path}.{part}"] = matrix.weight
    optimizer = torch.optim.AdamW(names.values(), lr=0.01, weight_decay=0.1)
    data, seed = rows(20), derive(7, "bank", 4, "train")
    plan = [
        b for e in range(2) for b in batches(data.lengths, 6, pool=2, generator=generator(seed, "batches", e))
    ]
    for step, chosen in enumerate(plan):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / len(plan) if schedule == "linear" else 1)
        batch = classification.collate(data, chosen, 0)
        optimizer.zero_grad()
        model(**batch).loss.backward()
        if max_grad_norm:
            torch.nn.utils.clip_grad_norm_(list(names.values()), max_grad_norm)
        optimizer.step()
    for name, weight in names.items():
        torch.testing.assert_close(trained[name], weight.detach(), rtol=1e-4, atol=2e-6)
        assert not torch.equal(trained[name], start[name])


def test_long_rows_with_answers_go_through_a_cpu_in_pieces() -> None:
    lengths = (600, 300, 300, 200, 100, 2000)
    ids, cpu = tuple([1] * length for length in lengths), torch.device("cpu")
    texts = Encoded(ids, None, (1,) * 6, answers=("x",) * 6, options=((),) * 6)
    assert loop._pieces([0, 1, 2, 3, 4, 5], texts, None, cpu) == [[4, 3, 1], [2], [0], [5]]
    assert loop._pieces([0, 1, 2, 3, 4, 5], texts, 2, cpu) == [[4, 3], [1, 2], [0], [5]]
    assert loop._pieces([4, 3, 1], texts, None, cpu) == [[4, 3, 1]]
    assert loop._pieces([0, 1, 5], texts, None, torch.device("cuda")) == [[0, 1, 5]]
    assert loop._pieces([0, 1, 5], replace(texts, answers=()), None, cpu) == [[0, 1, 5]]


def test_batches_depend_on_client_round_and_seed(base: Base) -> None:
    model = Model(Adapter(2), lora_init(base.modules, 2, 0))
    settings = Training(0.01, 4, 1)

    def train(client: str, round: int) -> torch.Tensor:
        trained = site(base, settings, client=client).train(model, Learn(("A", "B"), round=round))
        return torch.cat([tensor.flatten() for tensor in trained.values()])

    first = train("bank", 1)
    assert torch.equal(first, train("bank", 1))
    assert not torch.equal(first, train("bank", 2))
    assert not torch.equal(first, train("clinic", 1))


def test_only_named_parts_train(base: Base) -> None:
    model = Model(Adapter(2), lora_init(base.modules, 2, 0))
    trained = site(base, Training(0.01, 4, 1)).train(model, Learn(("B",), round=1))
    for name, tensor in trained.items():
        assert torch.equal(tensor, model.weights[name]) == name.endswith(".A")
    with pytest.raises(FedLeaseError, match="nothing to train"):
        site(base, Training()).train(model, Learn(("router",)))


def test_it_learns_and_scores_in_row_order(base: Base) -> None:
    data = site(base, Training(0.02, 8, 30), count=32)
    data.test_rows = data.train_rows
    model = Model(Adapter(4), lora_init(base.modules, 4, 0))
    before = data.loss(model)
    trained = Model(model.adapter, data.train(model, Learn(("A", "B"), round=1)))
    assert data.loss(trained) < 0.95 * before
    assert data.score(trained)["accuracy"] > 0.9


def test_an_adapter_that_does_not_fit_is_named(base: Base) -> None:
    weights = dict(lora_init(base.modules, 2, 0))
    name = next(iter(weights))
    with pytest.raises(FedLeaseError, match="does not fit module"):
        site(base, Training()).score(Model(Adapter(2), {**weights, name: torch.zeros(5, 5)}))
    del weights[name]
    with pytest.raises(FedLeaseError, match="does not fit module"):
        site(base, Training()).score(Model(Adapter(2), weights))


@pytest.mark.parametrize(
    ("native", "asked", "expected"),
    [
        (True, {}, ("bfloat16", "eager")),
        (False, {}, ("float32", "sdpa")),
        (True, {"precision": "float32"}, ("float32", "sdpa")),
        (False, {"precision": "bfloat16"}, ("bfloat16", "sdpa")),
        (True, {"attention": "sdpa"}, ("bfloat16", "sdpa")),
    ],
)
def test_precision_follows_the_processor_unless_pinned(
    native: bool, asked: dict[str, str], expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedlease.training.precision.cpu_multiplies_bfloat16", lambda: native)
    plan = choose(device="cpu", threads=3, **asked)  # type: ignore[arg-type]
    assert (plan.precision, plan.attention, plan.threads) == (*expected, 3)


def test_a_device_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(FedLeaseError, match="no CUDA device"):
        choose(device="cuda")
    with pytest.raises(FedLeaseError, match="threads is 0"):
        choose(threads=0)
