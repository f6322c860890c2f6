"""One seed covers everything: every random number comes from (run seed, purpose ...)."""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed that depends on the run's seed and on every word of the purpose.

    ``derive(0, "batches", "bank-3", 7)`` is the batch order of client bank-3 in round 7 of run 0, whatever
    other clients do and whether or not the run was interrupted.
    """
    text = "\x1f".join([str(int(seed)), *map(str, purpose)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a torch generator seeded by `derive`."""
    return torch.Generator().manual_seed(derive(seed, *purpose))
