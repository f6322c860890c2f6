"""Any frozen dataclass of tensors and plain values <-> JSON plus named tensors.

This is how a method's state becomes a checkpoint without pickle: `pack` walks the value, `unpack` rebuilds
it from the type hints of its class. Tensors and arrays come back bit-equal.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from fedlease.core.errors import FedLeaseError
from fedlease.core.files import read_bytes, write_bytes

T = TypeVar("T")


def pack(value: Any, tensors: dict[str, Tensor], path: str = "") -> Any:
    """Return ``value`` as plain JSON values, moving its tensors to ``tensors`` under their paths.

    Knows dataclasses, mappings with string or integer keys, sequences, tensors, numpy arrays, plain values.

    Raises:
        TypeError: the value holds something else.
    """
    if isinstance(value, Tensor):
        tensors[path] = value.detach().contiguous().clone()  # safetensors refuses shared storage
        return path
    if isinstance(value, np.ndarray):
        tensors[path] = torch.from_numpy(np.array(value))
        return path
    if dataclasses.is_dataclass(value):
        items = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {name: pack(item, tensors, f"{path}/{name}") for name, item in items.items()}
    if isinstance(value, Mapping):
        return [[key, pack(item, tensors, f"{path}/{key}")] for key, item in value.items()]
    if isinstance(value, tuple | list):
        return [pack(item, tensors, f"{path}/{index}") for index, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"cannot store a {type(value).__name__} at {path or 'the top'}")


def unpack(tree: Any, tensors: Mapping[str, Tensor], kind: Any) -> Any:
    """Rebuild a value of type ``kind`` from what `pack` made."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if tree is None:
            return None
        (kind,) = (option for option in arguments if option is not type(None))
        return unpack(tree, tensors, kind)
    if kind is Tensor:
        return tensors[tree]
    if kind is np.ndarray or origin is np.ndarray:
        return tensors[tree].numpy()
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        return kind(**{name: unpack(item, tensors, hints[name]) for name, item in tree.items()})
    if origin in (dict, Mapping, collections.abc.Mapping):
        return {key: unpack(item, tensors, arguments[1]) for key, item in tree}
    if origin is tuple:
        return tuple(unpack(item, tensors, arguments[0]) for item in tree)
    return tree


def save_value(value: Any, folder: Path, name: str) -> None:
    """Write ``name.safetensors`` and, last, ``name.json`` to the folder, each atomically."""
    tensors: dict[str, Tensor] = {}
    tree = pack(value, tensors)
    write_bytes(folder / f"{name}.safetensors", save(tensors))
    write_bytes(folder / f"{name}.json", json.dumps(tree).encode())


def load_value(kind: type[T], folder: Path, name: str) -> T:
    """Read back what `save_value` wrote.

    Raises:
        FedLeaseError: a file is missing or damaged.
    """
    try:
        tensors = load(read_bytes(folder / f"{name}.safetensors"))
        value: T = unpack(json.loads(read_bytes(folder / f"{name}.json")), tensors, kind)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise FedLeaseError(f"{folder / name}.json and .safetensors are damaged ({error})") from error
    return value
