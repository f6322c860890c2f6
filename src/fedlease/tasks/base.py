"""What every task gives the training loop: rows to tokens, tokens to batches, logits to loss and metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from fedlease.core.protocols import Metrics

Tokenizer = Callable[..., Mapping[str, Any]]
"""A Hugging Face tokenizer: called with lists of texts, it returns lists of token ids by name."""


@dataclass(frozen=True)
class Example:
    """One row: its texts (one or two, in the order of the source's columns) and the index of its label."""

    texts: tuple[str, ...]
    label: int


@dataclass(frozen=True)
class Encoded:
    """Tokenised rows, not yet padded.

    Attributes:
        input_ids: one list of token ids a row, special tokens included.
        token_type_ids: the segment of every token, or None where the tokenizer has none.
        labels: the label of every row.
        truncated: how many rows were longer than the model was given room for.
    """

    input_ids: tuple[list[int], ...]
    token_type_ids: tuple[list[int], ...] | None
    labels: tuple[int, ...]
    truncated: int = 0

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of every row."""
        return tuple(map(len, self.input_ids))


class Task(Protocol):
    """A kind of task. A module with these four functions is one: see `fedlease.tasks.classification`."""

    def encode(self, examples: Sequence[Example], tokenizer: Tokenizer, max_length: int) -> Encoded:
        """Tokenise the rows, none longer than ``max_length`` tokens."""

    def collate(self, encoded: Encoded, indices: Sequence[int], pad_id: int) -> dict[str, Tensor]:
        """Pad the rows ``indices`` to one batch: int64 tensors by the names the model takes."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of a batch: a float32 scalar."""

    def metrics(self, logits: Tensor, labels: Tensor) -> Metrics:
        """Return the scores of all test rows together, by name."""
