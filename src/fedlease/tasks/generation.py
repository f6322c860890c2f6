"""Generation: a causal language model reads a prompt and writes the answer, greedily."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlease.core.errors import FedLeaseError
from fedlease.tasks import templates, written
from fedlease.tasks.base import Encoded, Example
from fedlease.tasks.batching import most_tokens
from fedlease.tasks.inference import Inference
from fedlease.tasks.tokens import Prompts, without_middle

IGNORED = -100
"""The label of a token that is not to be predicted."""

PIECE = 32
"""Tokens whose logits are in float32 at a time: tensors of tens of megabytes are slow to come by."""


@dataclass(frozen=True)
class Generation:
    """The task and its settings.

    Attributes:
        template: what stands around a prompt: ``"alpaca"``, ``"chat"`` (the tokenizer's), or a text with
            ``{prompt}`` in it.
        columns: the keys of a client in a specification that name the columns of its rows.
        max_new_tokens: most tokens of an answer that are written when clients are scored.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    columns: ClassVar[tuple[str, ...]] = ("prompt", "answer", "messages")
    template: str = "alpaca"
    max_new_tokens: int = 64

    def __post_init__(self) -> None:
        templates.check(self.template)
        if self.max_new_tokens < 1:
            raise FedLeaseError(f"generation.max_new_tokens is {self.max_new_tokens}: it must be above 0")

    @property
    def metric(self) -> str:
        """The score that tables show."""
        return "rouge1"

    def check_columns(self, named: Mapping[str, Any]) -> None:
        """Check what a client says of its columns.

        Raises:
            FedLeaseError: neither a prompt with its answer nor a chat, or both.
        """
        prompt, messages = bool(named["prompt"]), bool(named["messages"])
        if prompt == messages or prompt != (named["answer"] is not None):
            raise FedLeaseError("generation needs the columns prompt and answer, or messages")

    def encode(self, examples: Sequence[Example], tokenizer: Any, max_length: int) -> Encoded:
        """Tokenise rows as prompt, answer and end token; nothing is padded.

        A prompt has room for ``max_length`` tokens less those of its answer and end, or less
        ``max_new_tokens`` where that is more: so it reads the same in training and in scoring. A longer one
        loses tokens from its middle, never of the template around it, and is counted; no answer is cut.

        Args:
            examples: rows with an answer.
            tokenizer: a Hugging Face tokenizer with an end token. It tokenises answers apart from prompts.
            max_length: most tokens a row may have, and most that reading and writing may take.

        Raises:
            FedLeaseError: a row without an answer, or that does not fit; no end token; no rouge-score, before
                anything is trained; and all that `templates.render` raises.
        """
        written.scorer()
        if tokenizer.eos_token_id is None:
            raise FedLeaseError("the model's tokenizer has no end token: an answer would never end")
        for row, example in enumerate(examples):
            if example.answer is None:
                raise FedLeaseError(f"row {row} ({_start(example)}) has no answer: every row needs one")
        if not examples:
            return Encoded((), None, ())
        texts = tuple(example.answer or "" for example in examples)
        rendered = [templates.render(self.template, example, tokenizer) for example in examples]
        tokens = Prompts(tokenizer, marked=self.template == templates.CHAT)
        prompts, answers = tokens.prompts(rendered), tokens.answers(texts)
        cut = 0
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            room = max_length - max(len(answer), self.max_new_tokens)
            if len(prompt) <= room:
                continue
            head, tail = tokens.around(rendered[row])
            if head + tail >= room:
                raise FedLeaseError(
                    f"row {row} ({_start(examples[row])}): its answer has {len(answer)} tokens with its end, "
                    f"generation.max_new_tokens is {self.max_new_tokens}, the template has {head + tail}: "
                    f"model.max_length {max_length} leaves no room for the prompt"
                )
            prompts[row] = without_middle(prompt, head, tail, room)
            cut += 1
        return Encoded(
            input_ids=tuple(prompt + answer for prompt, answer in zip(prompts, answers, strict=True)),
            token_type_ids=None,
            labels=tuple(map(len, prompts)),
            truncated=cut,
            answers=texts,
            options=tuple(map(_options, examples)),
        )

    def collate(self, encoded: Encoded, indices: Sequence[int], pad_id: int) -> dict[str, Tensor]:
        """Put rows together, padded on the right to the longest of them.

        Returns:
            int64 tensors [n, L]: ``input_ids``, ``attention_mask``, and ``labels``, which are the tokens of
            answers and ends, and `IGNORED` at prompts and padding.

        Raises:
            FedLeaseError: no rows.
        """
        if not indices:
            raise FedLeaseError("a batch of no rows: every client needs at least one row")
        length = max(len(encoded.input_ids[row]) for row in indices)
        batch: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
        for row in indices:
            ids, prompt = encoded.input_ids[row], encoded.labels[row]
            padding = length - len(ids)
            batch["input_ids"].append(ids + [pad_id] * padding)
            batch["attention_mask"].append([1] * len(ids) + [0] * padding)
            batch["labels"].append([IGNORED] * prompt + ids[prompt:] + [IGNORED] * padding)
        return {name: torch.tensor(rows, dtype=torch.int64) for name, rows in batch.items()}

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Return the mean cross-entropy over the tokens of answers and ends, a float32 scalar."""
        logits, targets = answer_logits(network, batch)
        pieces = zip(torch.split(logits, PIECE), torch.split(targets, PIECE), strict=True)
        summed = [functional.cross_entropy(ours.float(), theirs, reduction="sum") for ours, theirs in pieces]
        return torch.stack(summed).sum() / len(targets)

    def weight(self, encoded: Encoded, indices: Sequence[int]) -> int:
        """Return how many tokens the answers and ends of the rows have."""
        return sum(len(encoded.input_ids[row]) - encoded.labels[row] for row in indices)

    def mean_loss(self, network: nn.Module, rows: Encoded, inference: Inference) -> float:
        """Return the mean cross-entropy over the tokens of all answers and ends: long answers weigh more."""
        summed, tokens = 0.0, 0
        for indices in inference.batches(rows.lengths, most_tokens(inference.device)):
            batch = self.collate(rows, indices, inference.pad_id)
            on_device = {name: tensor.to(inference.device) for name, tensor in batch.items()}
            found = self.weight(rows, indices)
            summed += float(self.loss(network, on_device)) * found
            tokens += found
        return summed / tokens

    def score(self, network: nn.Module, rows: Encoded, inference: Inference) -> dict[str, float]:
        """Return the scores of what the network writes; see `written.scores`."""
        end = int(inference.tokenizer.eos_token_id)
        texts = [
            inference.tokenizer.decode(ids, skip_special_tokens=True).strip()
            for ids in self.write(network, rows, inference, end)
        ]
        return written.scores(texts, rows.answers, rows.options)

    def write(self, network: nn.Module, rows: Encoded, inference: Inference, end: int) -> list[list[int]]:
        """Return the tokens that the network writes to every prompt, the likeliest one at each step.

        Args:
            network: a causal model of transformers.
            rows: their answers are not looked at.
            inference: batches are of prompts of like length, padded on the left.
            end: the token an answer ends with; it is left out.
        """
        from transformers import GenerationConfig

        settings = GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=self.max_new_tokens,
            eos_token_id=end,
            pad_token_id=inference.pad_id,
        )
        made: list[list[int]] = [[] for _ in range(len(rows))]
        for indices in inference.batches(rows.labels):
            prompts = [rows.input_ids[row][: rows.labels[row]] for row in indices]
            length = max(map(len, prompts))
            ids = [[inference.pad_id] * (length - len(prompt)) + prompt for prompt in prompts]
            mask = [[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts]
            with _without_gaps(network) as writer:
                output = writer.generate(
                    input_ids=torch.tensor(ids, device=inference.device),
                    attention_mask=torch.tensor(mask, device=inference.device),
                    generation_config=settings,
                )
            for row, new in zip(indices, output[:, length:].tolist(), strict=True):
                made[row] = new[: new.index(end)] if end in new else new
        return made


def answer_logits(network: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the logits [n, V] before each of the n labels of a batch, and those labels int64 [n].

    The network's own forward computes them, with whatever it does to logits; but its output layer is given
    the hidden states that are asked for, not the whole sequence: logits of a large vocabulary are most of
    what training holds in memory.
    """
    targets = batch["labels"][:, 1:]
    wanted = targets != IGNORED
    before = functional.pad(wanted, (0, 1))

    def only_those(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0][before], *inputs[1:])

    handle = _generating(network).get_output_embeddings().register_forward_pre_hook(only_those)
    try:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        logits: Tensor = network(**inputs, use_cache=False).logits
    finally:
        handle.remove()
    return logits, targets[wanted]


@contextmanager
def _without_gaps(network: nn.Module) -> Iterator[Any]:
    """The network, whose output layer is given hidden states that lie side by side in memory.

    The last ones of a batch's prompts are a slice of all of them, which PyTorch multiplies row by row: in
    bfloat16 on a CPU that takes seconds, with a copy milliseconds (docs/log.md).
    """
    writer = _generating(network)
    handle = writer.get_output_embeddings().register_forward_pre_hook(
        lambda _, inputs: (inputs[0].contiguous(), *inputs[1:])
    )
    try:
        yield writer
    finally:
        handle.remove()


def _generating(network: nn.Module) -> Any:
    """The network, with the methods that causal models of transformers have and other modules lack."""
    return network


def _options(example: Example) -> tuple[str, ...]:
    offered = written.options("\n".join(example.texts))
    return offered if written.plain(example.answer or "") in map(written.plain, offered) else ()


def _start(example: Example) -> str:
    text = " ".join(" ".join(example.texts).split())
    return repr(text if len(text) <= 40 else text[:40] + "...")
