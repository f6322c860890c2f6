"""What stands around a prompt when a model reads it: Alpaca's words, one's own, or the marks of a chat."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from fedlease.core.errors import FedLeaseError
from fedlease.tasks.base import ANSWERS, Example

FIELD = "{prompt}"
"""Where the prompt goes in a template."""

ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the "
    "request.\n\n### Instruction:\n{prompt}\n\n### Response:\n"
)
"""R. Taori et al., "Stanford Alpaca", 2023: the form for instructions without further input."""

NAMED = {"alpaca": ALPACA}
CHAT = "chat"
"""The template of the tokenizer."""

MARK = "\u2063the last message\u2063"
"""Stands for the last message where its place is looked for: that itself may be a word of the template."""


class Rendered(NamedTuple):
    """A prompt as a model reads it, in three parts; only the body may be cut where it is too long."""

    head: str
    body: str
    tail: str


def check(template: str) -> None:
    """Raise a FedLeaseError where a template has no place, or several, for the prompt, or other fields."""
    text = NAMED.get(template, template)
    if template != CHAT and text.count(FIELD) != 1:
        known = ", ".join((*NAMED, CHAT))
        raise FedLeaseError(
            f"generation.template is {template!r}: it must be one of {known}, or a text with {FIELD} once"
        )
    others = [field for field in re.findall(r"\{\w+\}", text) if field != FIELD]
    if others:
        raise FedLeaseError(
            f"generation.template has {others[0]}, and only {FIELD} is filled in: a client's prompt may name "
            "several columns"
        )


def render(template: str, example: Example, tokenizer: Any) -> Rendered:
    """Put a prompt into a template; its parts and messages are a blank line apart where it is not ``chat``.

    Raises:
        FedLeaseError: ``chat`` with a tokenizer that has no template or whose template refuses the messages;
            another template for a chat with earlier answers, which it could not tell from questions.
    """
    if template == CHAT:
        return _as_chat(example, tokenizer)
    if ANSWERS in example.roles:
        raise FedLeaseError('a prompt that is a chat with earlier answers needs generation.template = "chat"')
    head, _, tail = NAMED.get(template, template).partition(FIELD)
    return Rendered(head, "\n\n".join(example.texts), tail)


def _as_chat(example: Example, tokenizer: Any) -> Rendered:
    if not getattr(tokenizer, "chat_template", None):
        raise FedLeaseError(
            "generation.template is chat, and the model's tokenizer has no chat template: "
            f"use alpaca or a text with {FIELD}"
        )
    texts, roles = example.texts, example.roles
    if not roles:
        texts, roles = ("\n\n".join(texts),), ("user",)
    whole, marked = (_chat(tokenizer, roles, (*texts[:-1], last)) for last in (texts[-1], MARK))
    head, _, tail = marked.partition(MARK)
    for body in (texts[-1], texts[-1].strip()):
        if whole == head + body + tail:
            return Rendered(head, body, tail)
    return Rendered("", whole, "")  # the template changes what it is given


def _chat(tokenizer: Any, roles: Sequence[str], texts: Sequence[str]) -> str:
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # templates are programs of their own and raise what they like
        raise FedLeaseError(f"the tokenizer's chat template refuses the messages: {error}") from error
