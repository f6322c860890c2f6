"""A message as bytes: safetensors for the tensors, JSON for the facts, nothing that could run code."""

from __future__ import annotations

import json
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import Message
from fedlease.core.wired import Wired, digest_of


def to_wire(message: Message) -> Wired:
    """Return the message as bytes."""
    # safetensors refuses tensors that share storage, as slices of a stack do
    weights = save({name: tensor.detach().contiguous().clone() for name, tensor in message.weights.items()})
    facts = json.dumps({"facts": dict(message.facts), "names": list(message.weights)})
    return Wired(weights, facts, digest_of(weights, facts))


def from_wire(wired: Wired) -> Message:
    """Rebuild the message; its tensors are bit-equal.

    Raises:
        FedLeaseError: it is damaged; to be read after who sent it.
    """
    if digest_of(wired.weights, wired.facts) != wired.digest:
        raise FedLeaseError(f"sent {len(wired.weights):,} bytes that are damaged or cut off")
    try:
        told: Any = json.loads(wired.facts)
        weights = load(wired.weights)
        ordered = {name: weights[name] for name in told["names"]}
        if len(ordered) < len(weights) or not isinstance(told["facts"], dict):
            raise KeyError("names")
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise FedLeaseError(f"sent what is no message ({type(error).__name__})") from error
    return Message(ordered, told["facts"])
