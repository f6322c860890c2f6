"""A client's training that many runs have in common, done once: FedLEASE's initial phase above all.

A training is the same when everything that goes into it is: base model, machine plan, rows, settings, seed,
client, round and first weights. All of it is hashed into the name of a file with what came out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fedlease.core.adapter import Learn, Model
from fedlease.core.files import write_bytes
from fedlease.core.progress import Progress
from fedlease.core.weights import Weights, select
from fedlease.training.site import TorchSite

SHARED = ("warm-up", "start")
"""The purposes of training that are worth remembering: what clients do alone, before methods differ."""

FORMAT = 1
"""Part of the hash: raised when the same inputs come to give another result."""


@dataclass
class RememberingSite(TorchSite):
    """A `TorchSite` that looks in a folder before it trains, and leaves there what it trained.

    Attributes:
        memory: shared by runs; made when the first result is written.
        context: what else the result depends on: base model, precision, threads.
    """

    memory: Path = Path()
    context: Mapping[str, Any] = field(default_factory=dict)

    def train(self, model: Model, learn: Learn) -> Weights:
        """Train, or return what the same training gave before: bit for bit the same."""
        if learn.purpose not in SHARED:
            return super().train(model, learn)
        path = self.memory / f"{self._key(model, learn)}.safetensors"
        found = _read(path)
        if found is not None:
            trained, told = found
            self.watch(told)
            return {**model.weights, **trained}
        last: list[Progress] = []

        def watch(step: Progress) -> None:
            last[:] = [step]
            self.watch(step)

        began = perf_counter()
        weights = TorchSite.train(replace(self, watch=watch), model, learn)
        if last:
            _write(path, select(weights, learn.parts), last[0], perf_counter() - began)
        return weights

    def _key(self, model: Model, learn: Learn) -> str:
        inputs = {
            "format": FORMAT,
            "libraries": [
                torch.__version__,
                transformers.__version__,
                torch.backends.cpu.get_cpu_capability(),
            ],
            "task": getattr(self.task, "__name__", str(self.task)),
            **self.context,
            "client": self.client,
            "seed": self.seed,
            "settings": asdict(self.settings),
            "labels": self.labels,
            "adapter": asdict(model.adapter),
            "learn": [sorted(learn.parts), learn.round, learn.epochs, learn.purpose],
            "rows": [self.train_rows.input_ids, self.train_rows.token_type_ids, self.train_rows.labels],
        }
        digest = hashlib.blake2b(json.dumps(inputs, sort_keys=True).encode(), digest_size=16)
        for name, tensor in sorted(model.weights.items()):
            digest.update(f"{name}{tuple(tensor.shape)}".encode() + tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


def _write(path: Path, trained: Weights, step: Progress, seconds: float) -> None:
    """Write what was trained, and the last word of whoever trained it."""
    told = {**asdict(step), "rows": step.total, "seconds": 0.0, "reused": seconds}
    path.parent.mkdir(parents=True, exist_ok=True)
    ready = {name: tensor.contiguous() for name, tensor in trained.items()}
    write_bytes(path, save(ready, metadata={"progress": json.dumps(told)}))


def _read(path: Path) -> tuple[dict[str, Tensor], Progress] | None:
    """Read it back; None where there is nothing that can be read, so that it is trained again."""
    try:
        with safe_open(path, "pt") as file:
            told = Progress(**json.loads(file.metadata()["progress"]))
            return {name: file.get_tensor(name) for name in file.keys()}, told  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, TypeError, KeyError):
        return None
