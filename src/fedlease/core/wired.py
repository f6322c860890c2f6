"""A message as bytes, for those who only pass it on: nothing heavy is imported here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Wired:
    """A message on the wire.

    Attributes:
        weights: the tensors, bit-equal, as safetensors.
        facts: a JSON object of the facts, and of the tensors' names in order, which safetensors sorts.
        digest: of both, to notice what was damaged on the way: 32 hexadecimal digits.
    """

    weights: bytes
    facts: str
    digest: str


def digest_of(weights: bytes, facts: str) -> str:
    """The digest that belongs to a message's bytes."""
    digest = hashlib.blake2b(facts.encode(), digest_size=16)
    digest.update(weights)
    return digest.hexdigest()
