"""What every task gives the training loop: rows to tokens, tokens to batches, batches to loss and scores."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from fedlease.core.protocols import Metrics
from fedlease.tasks.inference import Inference

Tokenizer = Callable[..., Mapping[str, Any]]
"""A Hugging Face tokenizer: called with lists of texts, it returns lists of token ids by name."""


ANSWERS = "assistant"
"""The role of a chat's messages that a model is to write."""


@dataclass(frozen=True)
class Example:
    """One row.

    Attributes:
        texts: in classification one or two, in the order of the source's columns; in generation the parts of
            the prompt.
        label: the index of its label; 0 where the task has none.
        answer: what a model is to write; None in classification.
        roles: who says each text, where the row is a chat; else empty.
    """

    texts: tuple[str, ...]
    label: int = 0
    answer: str | None = None
    roles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Encoded:
    """Tokenised rows, not yet padded.

    Attributes:
        input_ids: one list of token ids a row, special tokens included.
        token_type_ids: the segment of every token, or None where the tokenizer has none.
        labels: the label of every row; in generation how many of its tokens are the prompt.
        truncated: how many rows were longer than the model was given room for.
        answers: the text to be written for every row; empty in classification.
        options: the answers that every row's prompt offers, none where it offers none; empty in
            classification.
    """

    input_ids: tuple[list[int], ...]
    token_type_ids: tuple[list[int], ...] | None
    labels: tuple[int, ...]
    truncated: int = 0
    answers: tuple[str, ...] = ()
    options: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of every row."""
        return tuple(map(len, self.input_ids))


class Task(Protocol):
    """A kind of task: what a batch means to a network. A module with these functions is one too.

    See `fedlease.tasks.classification` and `fedlease.tasks.generation`.
    """

    @property
    def metric(self) -> str:
        """The score that tables show."""

    @property
    def columns(self) -> Collection[str]:
        """The keys of a client in a specification that name the columns of its rows."""

    def check_columns(self, named: Mapping[str, Any]) -> None:
        """Refuse, by a `FedLeaseError`, what a client with data of its own says under these keys."""

    def encode(self, examples: Sequence[Example], tokenizer: Tokenizer, max_length: int) -> Encoded:
        """Tokenise the rows, none longer than ``max_length`` tokens."""

    def collate(self, encoded: Encoded, indices: Sequence[int], pad_id: int) -> dict[str, Tensor]:
        """Pad the rows ``indices`` to one training batch: int64 tensors by the names the model takes."""

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of a batch of `collate` on the network's device: a float32 scalar."""

    def weight(self, encoded: Encoded, indices: Sequence[int]) -> int:
        """Return what the rows ``indices`` weigh in a mean loss: rows, or tokens that are to be written."""

    def mean_loss(self, network: nn.Module, rows: Encoded, inference: Inference) -> float:
        """Return the mean loss over all rows, each as `loss` weighs it in a batch of all."""

    def score(self, network: nn.Module, rows: Encoded, inference: Inference) -> Metrics:
        """Return the scores of all rows together, by name, between 0 and 1."""
