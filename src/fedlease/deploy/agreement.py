"""What server and sites must have agreed on before they work together, and how they know that they have."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from fedlease.experiments.spec import Spec

ONLY_HERE = {"data", "exchange", "name", "score_every"}
"""Tables and keys of a specification that each side may have its own way."""

SAMPLES, SAMPLE = 64, 4096


def agreement(spec: Spec) -> str:
    """A hash of what makes the result: method, model, training, seed, rounds, wire and names of the clients.

    Where the rows of a client lie is its site's affair, but not whether it is scored on rows held out;
    so is where the model lies, whose files are compared.
    """
    told = spec.model_dump(mode="json", exclude={"clients", "method", *ONLY_HERE})
    for key in ("name", "device", "threads"):
        told["model"].pop(key)
    told |= {"method": spec.settings(), "clients": sorted(spec.ids), "task": spec.clients[0].task}
    told |= {"held_out": spec.data.held_out}
    if spec.exchange.wire != "float32":
        told["wire"] = spec.exchange.wire
    return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=8).hexdigest()


def model_files(model: str) -> str:
    """Hash samples of a model's files, to know that sites have the same; a hub id stands for itself."""
    folder = Path(model)
    if not folder.is_dir():
        return model
    digest = hashlib.blake2b(digest_size=8)
    wanted = ("*.safetensors", "*.bin", "config.json", "tokenizer*", "vocab*")
    for path in sorted({path for pattern in wanted for path in folder.glob(pattern) if path.is_file()}):
        size = path.stat().st_size
        digest.update(f"{path.name} {size} ".encode())
        with path.open("rb") as file:
            for start in range(0, size, max(SAMPLE, size // SAMPLES)):
                file.seek(start)
                digest.update(file.read(SAMPLE))
    return digest.hexdigest()
