"""Labels as they stand in data (numbers, true and false, words) to indices of the label names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedlease.core.errors import FedLeaseError


def word(value: Any, place: str, column: str) -> str:
    """Return a label as one word, the same whether the file's format has numbers or text alone.

    Raises:
        FedLeaseError: an empty label, or one that is no integer, boolean or text.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    if isinstance(value, str) and value.strip():
        text = value.strip()
        return text.lower() if text.lower() in _BOOLEANS else text
    if value is None or value == "" or (isinstance(value, str) and not value.strip()):
        raise FedLeaseError(f"{place}: the label in column '{column}' is empty")
    raise FedLeaseError(f"{place}: label {value!r} in column '{column}' is no integer, boolean or text")


def found(words: Sequence[str], origin: str) -> tuple[str, ...]:
    """Return the label names of data that came without any: all that occur, sorted (numbers by value).

    Raises:
        FedLeaseError: all rows have the same label, or nearly each has its own.
    """
    names = sorted(set(words))
    if all(map(_is_integer, names)):
        names.sort(key=int)
    if len(names) < 2:
        raise FedLeaseError(
            f"{origin}: every row has the label '{names[0]}'; a task needs at least two labels"
        )
    if len(names) > max(100, len(words) // 2):
        raise FedLeaseError(
            f"{origin}: {len(words)} rows have {len(names)} labels; is the label column right?"
        )
    return tuple(names)


def index(label: str, names: Sequence[str], place: str, column: str) -> int:
    """Return which of the names a label means: by its name first, else by its number from 0.

    Where all names are integers themselves, a number is a name: 0 is none of ``("1", "2", "3")``.

    Raises:
        FedLeaseError: it is none of them.
    """
    if label in names:
        return names.index(label)
    if label in _BOOLEANS and len(names) == 2:
        return _BOOLEANS.index(label)
    numbered = all(map(_is_integer, names))
    if _is_integer(label):
        numbers = [int(name) for name in names] if numbered else list(range(len(names)))
        if int(label) in numbers:
            return numbers.index(int(label))
    raise FedLeaseError(
        f"{place}: label '{label}' in column '{column}' is none of the {len(names)} labels: "
        f"{', '.join(names)}" + ("" if numbered else f" (or 0 to {len(names) - 1})")
    )


_BOOLEANS = ("false", "true")


def _is_integer(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True
