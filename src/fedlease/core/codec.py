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
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file
from torch import Tensor

from fedlease.core.errors import FedLeaseError
from fedlease.core.files import read_bytes, write_bytes
from fedlease.core.tensor_file import write_tensors

T = TypeVar("T")

Read = Callable[[], Tensor]


def pack(value: Any, tensors: dict[str, Read], path: str = "") -> Any:
    """Return ``value`` as plain JSON values, and how to read its tensors in ``tensors`` under their paths.

    Those of a mapping are read from it when they are wanted, so a mapping that reads them from a disk is
    never in memory as a whole. Knows dataclasses, mappings with string or integer keys, sequences, tensors,
    numpy arrays, plain values.

    Raises:
        TypeError: the value holds something else.
    """
    if isinstance(value, Tensor):
        tensors[path] = lambda: value
        return path
    if isinstance(value, np.ndarray):
        tensors[path] = lambda: torch.from_numpy(np.array(value))
        return path
    if dataclasses.is_dataclass(value):
        items = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {name: pack(item, tensors, f"{path}/{name}") for name, item in items.items()}
    if isinstance(value, Mapping):
        return [[key, _pack_entry(value, key, tensors, f"{path}/{key}")] for key in value]
    if isinstance(value, tuple | list):
        return [pack(item, tensors, f"{path}/{index}") for index, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"cannot store a {type(value).__name__} at {path or 'the top'}")


def _pack_entry(value: Mapping[Any, Any], key: Any, tensors: dict[str, Read], path: str) -> Any:
    item = value[key]
    packed = pack(item, tensors, path)
    if isinstance(item, Tensor):
        tensors[path] = partial(value.__getitem__, key)  # and the one that was read is let go
    return packed


def unpack(tree: Any, tensors: Mapping[str, Tensor], kind: Any) -> Any:
    """Rebuild a value of type ``kind`` from what `pack` made.

    Knows the kinds that `check` does.

    Raises:
        TypeError: another kind, named.
        KeyError, ValueError, AttributeError: ``tree`` was not made from a value of this kind.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if _is_plain(kind):
        return tree
    if origin in _UNIONS:
        return None if tree is None else unpack(tree, tensors, _option(kind))
    if kind is Tensor:
        return tensors[tree]
    if kind is np.ndarray or origin is np.ndarray:
        return tensors[tree].numpy()
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        return kind(**{name: unpack(item, tensors, hints[name]) for name, item in tree.items()})
    if origin in _MAPPINGS:
        return {key: unpack(item, tensors, arguments[1]) for key, item in tree}
    if origin is list:
        return [unpack(item, tensors, arguments[0]) for item in tree]
    if origin is tuple and arguments[-1:] == (...,):
        return tuple(unpack(item, tensors, arguments[0]) for item in tree)
    if origin is tuple:
        pairs = zip(tree, arguments, strict=True)
        return tuple(unpack(item, tensors, argument) for item, argument in pairs)
    raise _unknown(kind)


def check(kind: Any, _inside: tuple[Any, ...] = ()) -> None:
    """Raise a TypeError, naming it, where a type or one inside it cannot be rebuilt by `unpack`.

    These can: dataclasses of such types, Tensor, numpy arrays, ``dict``, ``Mapping``, ``list`` and ``tuple``
    (of one type and any length, or of a type for each place) with their arguments, plain values and unions
    of them, and ``X | None``.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if _is_plain(kind) or kind in (Tensor, np.ndarray) or origin is np.ndarray or kind in _inside:
        return
    inside = (*_inside, kind)
    if origin in _UNIONS:
        check(_option(kind), inside)
    elif dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            check(hints[field.name], inside)
    elif origin in _MAPPINGS and arguments[0] in (str, int):
        check(arguments[1], inside)
    elif origin in (list, tuple):
        for argument in arguments:
            if argument is not ...:
                check(argument, inside)
    else:
        raise _unknown(kind)


_UNIONS = (typing.Union, types.UnionType)
_MAPPINGS = (dict, Mapping, collections.abc.Mapping)


def _is_plain(kind: Any) -> bool:
    """Whether a value of this type is in JSON what it is here, so that nothing is to be rebuilt."""
    if typing.get_origin(kind) in _UNIONS:
        return all(map(_is_plain, typing.get_args(kind)))
    return kind in (bool, int, float, str, type(None)) or typing.get_origin(kind) is typing.Literal


def _option(union: Any) -> Any:
    """Return the X of ``X | None``."""
    options = [option for option in typing.get_args(union) if option is not type(None)]
    if len(options) > 1:
        raise _unknown(union)
    return options[0]


def _unknown(kind: Any) -> TypeError:
    return TypeError(f"cannot load a {kind if typing.get_args(kind) else getattr(kind, '__name__', kind)}")


def save_value(value: Any, folder: Path, name: str) -> None:
    """Write ``name.safetensors`` and, last, ``name.json`` to the folder, each atomically.

    Raises:
        TypeError: the value holds, or a dataclass declares, a type that could not be loaded again.
        FedLeaseError: a file cannot be written.
    """
    check(type(value))
    tensors: dict[str, Read] = {}
    tree = pack(value, tensors)
    write_tensors(folder / f"{name}.safetensors", tensors)
    write_bytes(folder / f"{name}.json", json.dumps(tree).encode())


def load_value(kind: type[T], folder: Path, name: str, *, mapped: bool = False) -> T:
    """Read back what `save_value` wrote.

    Args:
        kind: its type.
        folder, name: where it lies.
        mapped: tensors are views of the file, which must stay as long as they do; else they are in memory.

    Raises:
        TypeError: ``kind`` holds a type that cannot be loaded; it is named.
        FedLeaseError: a file is missing or damaged.
    """
    check(kind)
    try:
        path = folder / f"{name}.safetensors"
        tensors = load_file(path) if mapped else load(read_bytes(path))
        value: T = unpack(json.loads(read_bytes(folder / f"{name}.json")), tensors, kind)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FedLeaseError(f"{folder / name}.json and .safetensors are damaged ({error})") from error
    return value
