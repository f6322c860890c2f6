"""What tests of whole runs share."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from peft import PeftModel

import fedlease
from fedlease.core.adapter import Model
from fedlease.experiments.places import settle
from fedlease.experiments.prepare import Federation, prepare
from fedlease.experiments.spec import make_spec
from fedlease.tuner import FedLeaseLayer

Make = Callable[..., dict[str, Any]]

_fresh = multiprocessing.get_context("forkserver")
_fresh.set_forkserver_preload(["fedlease.experiments.worker"])


class Killed(BaseException):
    """Stands for the end of the process: nothing below a test catches it."""


def begin(call: Callable[..., Any], *arguments: Any) -> BaseProcess:
    """Start a call in a process to be killed: forked from one that has imported all and computed nothing."""
    process = _fresh.Process(target=call, args=arguments, daemon=True)
    process.start()
    return process


def files(folder: Path) -> dict[str, bytes]:
    """Every adapter file of a run."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for kind in ("adapters", "heads")
        for path in sorted((folder / kind).rglob("*"))
        if path.is_file()
    }


def federation_of(spec: dict[str, Any]) -> Federation:
    made = make_spec(spec)
    return prepare(made, settle(made, Path.cwd()))


def core_model(folder: Path, loaded: PeftModel) -> Model:
    """What PEFT loaded, as fedlease's own type."""
    weights = {}
    for path, layer in loaded.base_model.model.named_modules():
        if isinstance(layer, FedLeaseLayer):
            weights |= {f"{path}.{kind}": t for kind, t in zip("AB", layer.read("default"), strict=False)}
            weights[f"{path}.router"] = layer.read("default")[2]
    adapter = next(m for m in loaded.modules() if isinstance(m, FedLeaseLayer)).adapters["default"]
    assert json.loads((folder / "adapter_config.json").read_text())["assigned_expert"] == adapter.assigned
    return Model(adapter, weights)


def scores(folder: Path) -> list[dict[str, Any]]:
    return [entry["metrics"] for entry in fedlease.Run(folder).record["rounds"]]
