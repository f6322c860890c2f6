"""Prompts and answers as tokens, and prompts made to fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedlease.tasks.templates import Rendered


class Prompts:
    """Tokenises with one tokenizer.

    Args:
        tokenizer: a Hugging Face tokenizer.
        marked: whether texts bring the marks of their beginning along, as those of a chat template do; else
            a beginning that the tokenizer gives to texts is put before prompts. An end that it gives is not.
    """

    def __init__(self, tokenizer: Any, marked: bool) -> None:
        self._tokenizer = tokenizer
        begin = None if marked else tokenizer.bos_token_id
        self._first: list[int] = []
        if begin is not None and tokenizer("a")["input_ids"][:1] == [begin]:
            self._first.append(int(begin))

    def prompts(self, rendered: Sequence[Rendered]) -> list[list[int]]:
        """Return the tokens of prompts in their templates."""
        return [self._first + ids for ids in self._ids(["".join(parts) for parts in rendered])]

    def answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of answers, each with the end token."""
        return [[*ids, int(self._tokenizer.eos_token_id)] for ids in self._ids(texts)]

    def around(self, rendered: Rendered) -> tuple[int, int]:
        """Return how many tokens the template has before the prompt and behind it."""
        head, tail = self._ids([rendered.head, rendered.tail])
        return len(self._first) + len(head), len(tail)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        found = self._tokenizer(
            list(texts), add_special_tokens=False, padding=False, truncation=False, verbose=False
        )
        ids: list[list[int]] = found["input_ids"]
        return ids


def without_middle(prompt: list[int], head: int, tail: int, room: int) -> list[int]:
    """Return a prompt cut to ``room`` tokens, where ``head`` at its start and ``tail`` at its end stay."""
    keep = room - head - tail
    left, right = head + (keep + 1) // 2, tail + keep // 2
    return prompt[:left] + prompt[len(prompt) - right :]
