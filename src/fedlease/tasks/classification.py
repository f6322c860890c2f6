"""Classification of one text or of a pair: accuracy over C labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlease.core.errors import FedLeaseError
from fedlease.tasks.base import Encoded, Example, Tokenizer
from fedlease.tasks.inference import Inference

metric = "accuracy"
"""The score that tables show."""

columns = ("text", "label", "labels")
"""The keys of a client in a specification that name the columns of its rows."""

SHORTEST = 8
"""The least room for a row: below it a pair's special tokens leave too little for the texts."""


def check_columns(named: Mapping[str, Any]) -> None:
    """Check what a client says of its columns.

    Raises:
        FedLeaseError: not one or two columns with text.
    """
    if len(named["text"]) not in (1, 2):
        raise FedLeaseError("text must name one or two columns")


def encode(
    examples: Sequence[Example], tokenizer: Tokenizer, max_length: int, *, num_labels: int | None = None
) -> Encoded:
    """Tokenise rows in batched calls; long rows lose tokens of their longest text, nothing is padded.

    Args:
        examples: rows of one text or two.
        tokenizer: a Hugging Face tokenizer.
        max_length: most tokens a row may have, special tokens included.
        num_labels: when given, labels are checked to lie in [0, num_labels).

    Raises:
        FedLeaseError: a row of no text or of more than two, a label outside the range, too little room.
    """
    if max_length < SHORTEST:
        raise FedLeaseError(f"max_length is {max_length}: a row needs room for at least {SHORTEST} tokens")
    for row, example in enumerate(examples):
        if len(example.texts) not in (1, 2):
            raise FedLeaseError(f"row {row} has {len(example.texts)} texts: a row needs one or two")
        if num_labels is not None and not 0 <= example.label < num_labels:
            raise FedLeaseError(f"row {row} has label {example.label}: it must be in 0 to {num_labels - 1}")
    if not examples:
        return Encoded((), None, ())
    tokens: dict[str, dict[int, list[int]]] = {}
    truncated = 0
    for texts in (1, 2):  # a call takes rows of one kind only
        rows = [row for row, example in enumerate(examples) if len(example.texts) == texts]
        truncated += _tokenise(examples, rows, tokenizer, max_length, tokens) if rows else 0
    order = range(len(examples))
    types = tokens.get("token_type_ids")
    return Encoded(
        input_ids=tuple(tokens["input_ids"][row] for row in order),
        token_type_ids=None if types is None else tuple(types[row] for row in order),
        labels=tuple(example.label for example in examples),
        truncated=truncated,
    )


def _tokenise(
    examples: Sequence[Example],
    rows: Sequence[int],
    tokenizer: Tokenizer,
    max_length: int,
    tokens: dict[str, dict[int, list[int]]],
) -> int:
    """Add the tokens of these rows; return how many rows were too long."""
    columns = list(zip(*(examples[row].texts for row in rows), strict=True))
    # The first pass tells how many rows are too long; only those are tokenised again.
    full = tokenizer(*map(list, columns), padding=False, truncation=False, verbose=False)
    names = [name for name in ("input_ids", "token_type_ids") if name in full]
    for name in names:
        tokens.setdefault(name, {}).update(zip(rows, full[name], strict=True))
    long = [index for index, row in enumerate(rows) if len(tokens["input_ids"][row]) > max_length]
    if long:
        texts = [[column[index] for index in long] for column in columns]
        cut = tokenizer(*texts, padding=False, truncation="longest_first", max_length=max_length)
        for name in names:
            tokens[name].update(zip([rows[index] for index in long], cut[name], strict=True))
    return len(long)


def collate(encoded: Encoded, indices: Sequence[int], pad_id: int) -> dict[str, Tensor]:
    """Put rows together, padded on the right to the longest of them.

    Returns:
        int64 tensors: ``input_ids`` and ``attention_mask`` [n, L], ``token_type_ids`` [n, L] where the
        tokenizer has them, ``labels`` [n].

    Raises:
        FedLeaseError: no rows.
    """
    if not indices:
        raise FedLeaseError("a batch of no rows: every client needs at least one row")
    length = max(len(encoded.input_ids[row]) for row in indices)
    batch = {
        "input_ids": _padded([encoded.input_ids[row] for row in indices], length, pad_id),
        "attention_mask": _padded([[1] * len(encoded.input_ids[row]) for row in indices], length, 0),
    }
    if encoded.token_type_ids is not None:
        batch["token_type_ids"] = _padded([encoded.token_type_ids[row] for row in indices], length, 0)
    batch["labels"] = torch.tensor([encoded.labels[row] for row in indices], dtype=torch.int64)
    return batch


def _padded(rows: Sequence[list[int]], length: int, value: int) -> Tensor:
    return torch.tensor([row + [value] * (length - len(row)) for row in rows], dtype=torch.int64)


def loss(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the mean cross-entropy over the rows of a batch, a float32 scalar."""
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    return cross_entropy(network(**inputs).logits, batch["labels"])


def weight(encoded: Encoded, indices: Sequence[int]) -> int:  # noqa: ARG001
    """Return how many rows there are: each weighs the same in a mean loss."""
    return len(indices)


def mean_loss(network: nn.Module, rows: Encoded, inference: Inference) -> float:
    """Return the mean cross-entropy over the rows."""
    return float(cross_entropy(*predict(network, rows, inference)))


def score(network: nn.Module, rows: Encoded, inference: Inference) -> dict[str, float]:
    """Return the `metrics` of the rows."""
    return metrics(*predict(network, rows, inference))


def predict(network: nn.Module, rows: Encoded, inference: Inference) -> tuple[Tensor, Tensor]:
    """Return logits [rows, C] float32 and labels [rows] int64, in the order of the rows, on the CPU."""
    logits: list[Tensor] = [torch.empty(0)] * len(rows)
    for indices in inference.batches(rows.lengths):
        batch = collate(rows, indices, inference.pad_id)
        batch.pop("labels")
        inputs = {name: tensor.to(inference.device) for name, tensor in batch.items()}
        for row, values in zip(indices, network(**inputs).logits.float().cpu(), strict=True):
            logits[row] = values
    return torch.stack(logits), torch.tensor(rows.labels)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy, a float32 scalar, of logits [n, C] of any float type and labels [n]."""
    return functional.cross_entropy(logits.float(), labels)


def metrics(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return ``{"accuracy": share of rows whose largest logit is their label's}``.

    Args:
        logits: [n, C], any float type.
        labels: int64 [n], each in [0, C).

    Raises:
        FedLeaseError: no rows, or a label the model has no output for.
    """
    rows, outputs = logits.shape
    if rows == 0 or labels.shape != (rows,):
        raise FedLeaseError(f"cannot score {rows} rows of logits against {labels.numel()} labels")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= outputs:
        wrong = low if low < 0 else high
        raise FedLeaseError(f"label {wrong} is out of range: the model's outputs are 0 to {outputs - 1}")
    return {"accuracy": float((logits.argmax(dim=1) == labels).double().mean())}
