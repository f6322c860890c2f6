"""Methods by the name used in specs and tables; a file in this folder that lists ``METHODS`` is found."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import Algorithm

ENTRY_POINTS = "fedlease.methods"
"""The entry point group in which another package names modules with ``METHODS``."""


@dataclass(frozen=True)
class Method:
    """A named method: its class, the paper, and the settings the name stands for.

    Attributes:
        name: the name in specs, tables and ``fedlease methods``.
        make: a frozen dataclass of hyperparameters that is an `Algorithm`.
        paper: where the method was published.
        settings: values that differ from the class's own defaults.
    """

    name: str
    make: type[Algorithm[Any]]
    paper: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The first line of the class's docstring."""
        return (self.make.__doc__ or "").strip().partition("\n")[0]

    def options(self) -> dict[str, Any]:
        """Every setting with the value it has unless the user says otherwise."""
        return {**defaults_of(self.make), **self.settings}


def defaults_of(make: type[Algorithm[Any]]) -> dict[str, Any]:
    """The values a method's class gives its settings."""
    known = fields(make)  # type: ignore[arg-type]
    return {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in known}


@cache
def methods() -> Mapping[str, Method]:
    """Every method by name, sorted: this package's files, and modules other packages name as entry points."""
    package = importlib.import_module("fedlease.algorithms")
    names = [f"fedlease.algorithms.{info.name}" for info in pkgutil.iter_modules(package.__path__)]
    names += [entry.value for entry in entry_points(group=ENTRY_POINTS)]
    found: dict[str, Method] = {}
    for name in names:
        for method in getattr(importlib.import_module(name), "METHODS", ()):
            if method.name in found:
                raise FedLeaseError(f"two methods are called {method.name}; one is in {name}")
            found[method.name] = method
    return dict(sorted(found.items()))


def find(name: str) -> Method:
    """Return the method of that name.

    Raises:
        FedLeaseError: there is none; the message lists those there are.
    """
    try:
        return methods()[name]
    except KeyError:
        raise FedLeaseError(f"there is no method {name!r}; there are: {', '.join(methods())}") from None


def build(name: str, **settings: Any) -> Algorithm[Any]:
    """Make a method with some of its settings changed.

    Raises:
        FedLeaseError: no such method or setting, or a value that cannot be.
    """
    method = find(name)
    unknown = [key for key in settings if key not in method.options()]
    if unknown:
        known = ", ".join(method.options())
        raise FedLeaseError(f"method {name} has no setting {unknown[0]!r}; it has: {known}")
    try:
        made: Algorithm[Any] = TypeAdapter(method.make).validate_python({**method.settings, **settings})
    except ValidationError as error:
        first = error.errors()[0]
        key, given = ".".join(map(str, first["loc"])), first.get("input")
        raise FedLeaseError(f"method.{key}: {first['msg']} ({given!r} given)") from error
    return made


def settings_of(algorithm: Algorithm[Any]) -> dict[str, Any]:
    """Return every setting of a built method."""
    return {f.name: getattr(algorithm, f.name) for f in fields(type(algorithm))}  # type: ignore[arg-type]
