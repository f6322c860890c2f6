"""Texts as they stand in data: a cell, a prompt of several cells with its answer, a chat's messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedlease.core.errors import FedLeaseError
from fedlease.tasks.base import ANSWERS, Example


def text(value: Any, place: str, column: str, what: str = "text") -> str:
    """Return a cell's text without outer white space.

    Raises:
        FedLeaseError: it is empty, no text, or holds half of a character.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        raise FedLeaseError(f"{place}: the {what} in column '{column}' is empty")
    if not isinstance(value, str):
        raise FedLeaseError(f"{place}: column '{column}' holds {type(value).__name__} {value!r}, not text")
    if not value.isprintable() and any("\ud800" <= character <= "\udfff" for character in value):
        raise FedLeaseError(f"{place}: column '{column}' holds half of a character (a lone surrogate escape)")
    return value.strip()


def prompted(row: Mapping[str, Any], place: str, prompt: Sequence[str], answer: str) -> Example:
    """Return a row of prompt columns and an answer; of several prompt columns empty ones are left out.

    Raises:
        FedLeaseError: no prompt or no answer.
    """
    return Example(asked(row, place, prompt), answer=text(row[answer], place, answer, "answer"))


def asked(row: Mapping[str, Any], place: str, prompt: Sequence[str]) -> tuple[str, ...]:
    """Return the parts of a prompt; of several columns empty ones are left out.

    Raises:
        FedLeaseError: no prompt.
    """
    filled = [column for column in prompt if row[column] is not None and row[column] != ""] or prompt[:1]
    return tuple(text(row[column], place, column, "prompt") for column in filled)


def talked(row: Mapping[str, Any], place: str, column: str) -> Example:
    """Return a row of chat messages: the last one, an assistant's, is the answer to those before.

    Raises:
        FedLeaseError: something else than a list of messages with role and content, or no answer at its end.
    """
    roles, said = messages_of(row, place, column)
    if len(said) < 2 or roles[-1] != ANSWERS:
        raise FedLeaseError(
            f"{place}: the messages in column '{column}' must be a prompt and, last, the {ANSWERS}'s answer"
        )
    return Example(said[:-1], answer=said[-1], roles=roles[:-1])


def messages_of(row: Mapping[str, Any], place: str, column: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the roles and the texts of a chat's messages.

    Raises:
        FedLeaseError: something else than a list of messages with role and content.
    """
    messages = row[column]
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise FedLeaseError(
            f"{place}: column '{column}' holds no list of messages, each {{role, content}} in texts"
        )
    roles = [message.get("role") for message in messages]
    if not all(isinstance(role, str) and role for role in roles):
        raise FedLeaseError(f"{place}: a message in column '{column}' has no role")
    said = [text(m.get("content"), place, column, f"{m['role']}'s message") for m in messages]
    return tuple(roles), tuple(said)
