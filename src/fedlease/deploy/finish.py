"""What a site tells when it is done, and what the server's record makes of it."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fedlease.core.adapter import Model
from fedlease.core.protocols import ClientId, Fact, Message
from fedlease.training.site import TorchSite
from fedlease.training.usage import Usage

log = logging.getLogger(__name__)

_USED = TypeAdapter(dict[str, Usage])


def finished(site: TorchSite, model: Model) -> dict[str, Fact]:
    """Return how many rows were cut to length, and each module's use of its experts as JSON."""
    facts: dict[str, Fact] = {"cut_train": site.train_rows.truncated, "cut_test": site.test_rows.truncated}
    used = site.usage(model)
    if used:
        facts["routing"] = json.dumps({path: asdict(of) for path, of in used.items()})
    return facts


def told(
    clients: Mapping[ClientId, Mapping[str, Any]], answers: Mapping[ClientId, Message]
) -> dict[str, Any]:
    """Return ``clients`` and ``routing`` as a record tells them; what makes no sense is left out."""
    described, routing = dict(clients), {}
    for client, answer in answers.items():
        cut = {kind: answer.facts.get(f"cut_{kind}") for kind in ("train", "test")}
        if all(isinstance(number, int) for number in cut.values()):
            described[client] = {**described[client], "cut_rows": cut}
        if "routing" in answer.facts:
            try:
                routing[client] = _read(str(answer.facts["routing"]))
            except (ValidationError, ValueError) as error:
                log.warning(
                    "what client %s tells of its experts is dropped: %s", client, type(error).__name__
                )
    return {"clients": described, **({"routing": routing} if routing else {})}


def _read(text: str) -> dict[str, Any]:
    """Read what `finished` wrote; raise ValueError for anything else."""
    used = {path: asdict(of) for path, of in _USED.validate_json(text).items()}
    for of in used.values():
        if not all(map(math.isfinite, (of["experts"], of["entropy"], *of["weights"]))):
            raise ValueError("numbers that are not finite")
    return used
