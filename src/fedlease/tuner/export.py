"""Adapters as PEFT folders: plain LoRA that stock PEFT loads, and mixtures that PEFT with fedlease loads.

A folder holds ``adapter_config.json`` and ``adapter_model.safetensors``. Files are written beside their
place and renamed, the config last, so a reader never meets half a file. Nothing is ever pickled.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from fedlease.core.adapter import Adapter, Model
from fedlease.core.errors import FedLeaseError
from fedlease.core.files import write_bytes
from fedlease.core.peft_names import PREFIX, core_name, peft_name
from fedlease.core.weights import Weights, module, part
from fedlease.tuner.config import FedLeaseConfig
from fedlease.tuner.stacks import check_shape, split

CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"


Saved = Mapping[str, Mapping[str, Tensor]]
"""Modules of the base that go with an adapter, such as a task head: path -> state dict."""


def save_lora(
    model: Model,
    folder: str | os.PathLike[str],
    base_model_name: str,
    task_type: str | None = None,
    saved: Saved | None = None,
) -> None:
    """Write an adapter of one expert as a folder that stock PEFT loads as LoRA.

    Args:
        model: ``{module}.A`` [r, d] and ``{module}.B`` [l, r] for each adapted module. A frozen companion is
            folded in: the rank written is the sum of both.
        folder: made if missing; the two files in it are replaced.
        base_model_name: what the base model was loaded from, for the config.
        task_type: PEFT's word for the model's head, e.g. ``"SEQ_CLS"`` or ``"CAUSAL_LM"``.
        saved: modules of the base that PEFT is to replace too when it loads the folder.

    Raises:
        FedLeaseError: several experts, a missing part or a shape that does not fit, a folder that cannot be
            written.
    """
    adapter = model.adapter
    if adapter.experts != 1:
        raise FedLeaseError(
            f"a LoRA folder holds one expert, this adapter mixes {adapter.experts}: export one of them"
        )
    modules = by_module(model)
    if adapter.fixed:
        adapter, modules = _folded(adapter, modules)
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=list(modules),
        base_model_name_or_path=base_model_name,
        task_type=task_type,
        modules_to_save=sorted(saved) if saved else None,
        inference_mode=True,
    )
    tensors = _of_modules(saved or {})
    for name, parts in modules.items():
        tensors[peft_name(name, "A")] = parts["A"]
        tensors[peft_name(name, "B")] = parts["B"]
    _write(folder, config.to_dict(), tensors)


def save_mixture(
    model: Model,
    folder: str | os.PathLike[str],
    base_model_name: str,
    task_type: str | None = None,
    saved: Saved | None = None,
) -> None:
    """Write an adapter of M experts as a folder that `PeftModel.from_pretrained` loads as ``FEDLEASE``.

    Args and errors are those of `save_lora`; weights are stacked, ``{module}.A`` [M, r, d] ([r, d] where all
    experts share it), and ``{module}.router`` [slots, d] is there when M > 1.
    """
    adapter = model.adapter
    modules = by_module(model)
    config = FedLeaseConfig.of(
        adapter,
        modules,
        base_model_name_or_path=base_model_name,
        task_type=task_type,
        modules_to_save=sorted(saved) if saved else None,
        inference_mode=True,
    )
    tensors = _of_modules(saved or {})
    for name, parts in modules.items():
        key = f"{PREFIX}{name}.fedlease_"
        tensors |= {f"{key}{kind}": tensor for kind, tensor in parts.items() if kind.startswith("fixed_")}
        if adapter.experts == 1:
            tensors |= {f"{key}A": parts["A"], f"{key}B": parts["B"]}
            continue
        for kind in ("A", "B"):
            tensors[f"{key}{kind}"] = parts[kind]
            if adapter.stacked(kind):
                tensors[f"{key}{kind}"], tensors[f"{key}frozen_{kind}"] = split(parts[kind], adapter.assigned)
        tensors[f"{key}router"] = parts["router"]
    _write(folder, config.to_dict(), tensors)


def read_lora(folder: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a stock PEFT LoRA folder as weights: ``{module}.A`` [r, d] and ``{module}.B`` [l, r], float32.

    B comes scaled by the config, by alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA: B A is the update
    of the base weight, and folders of different alpha and r compare. What `save_lora` wrote with B comes
    back with alpha / rank B. Modules may differ in rank and in alpha. Tensors that are no part of LoRA, such
    as a saved task head, are left out.

    Raises:
        FedLeaseError: no such folder or files, another method than LoRA, a variant of LoRA with more than A
            and B, unpaired or misshapen tensors, an alpha that is no number, files that cannot be read.
    """
    path = Path(folder)
    config = read_config(path)
    if config.get("peft_type") != "LORA":
        raise FedLeaseError(f"{path / CONFIG}: peft_type is {config.get('peft_type')!r}, only LORA is read")
    weights: dict[str, Tensor] = {}
    for key, tensor in read_tensors(path).items():
        name = core_name(key, str(path / TENSORS))
        if name is None:
            continue
        if tensor.dim() != 2 or name in weights:
            raise FedLeaseError(f"{path / TENSORS}: {key!r} {list(tensor.shape)} is not a part of plain LoRA")
        weights[name] = tensor.to(torch.float32)
    if not weights:
        raise FedLeaseError(f"{path / TENSORS}: holds no LoRA tensors")
    for name in sorted({module(key) for key in weights}):
        A, B = weights.get(f"{name}.A"), weights.get(f"{name}.B")
        if A is None or B is None:
            raise FedLeaseError(f"{path / TENSORS}: {name} has no lora_{'A' if A is None else 'B'}")
        if A.shape[0] != B.shape[1]:
            raise FedLeaseError(
                f"{path / TENSORS}: {name} has lora_A {list(A.shape)} and lora_B {list(B.shape)}, two ranks"
            )
        weights[f"{name}.B"] = B * _scale(config, name, A.shape[0], path / CONFIG)
    return dict(sorted(weights.items()))


def _scale(config: Mapping[str, Any], name: str, rank: int, file: Path) -> float:
    """What PEFT multiplies B A of a module by; the rank is that of the tensors (r, or of rank_pattern)."""
    alphas = config.get("alpha_pattern") or {}
    default = config.get("lora_alpha", LoraConfig().lora_alpha)
    alpha = alphas.get(get_pattern_key(list(alphas), name), default) if isinstance(alphas, dict) else None
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha) or rank < 1:
        raise FedLeaseError(f"{file}: {name} has lora_alpha {alpha!r} and rank {rank}, which is no scale")
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _of_modules(saved: Saved) -> dict[str, Tensor]:
    return {f"{PREFIX}{path}.{name}": tensor for path, held in saved.items() for name, tensor in held.items()}


def by_module(model: Model) -> dict[str, dict[str, Tensor]]:
    """Sort weights by module and check that each has the parts, in the shapes, that the adapter asks for.

    Raises:
        FedLeaseError: no weights, a missing part, a shape that does not fit.
    """
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in sorted(model.weights.items()):
        modules.setdefault(module(name), {})[part(name)] = tensor
    if not modules:
        raise FedLeaseError("there is nothing to export: the adapter has no weights")
    for name, parts in modules.items():
        _check_parts(name, parts, model.adapter)
    return modules


def _check_parts(name: str, parts: Mapping[str, Tensor], adapter: Adapter) -> None:
    wanted = {"A", "B"} | ({"router"} if adapter.experts > 1 else set())
    wanted |= {"fixed_A", "fixed_B"} if adapter.fixed else set()
    if set(parts) != wanted:
        raise FedLeaseError(f"{name} has the parts {sorted(parts)}: {sorted(wanted)} are needed")
    stacked = {kind: (adapter.experts,) if adapter.stacked(kind) else () for kind in ("A", "B")}
    d, l = parts["A"].shape[-1], parts["B"].shape[len(stacked["B"])]  # noqa: E741
    check_shape(f"{name}.A", parts["A"], (*stacked["A"], adapter.rank, d))
    check_shape(f"{name}.B", parts["B"], (*stacked["B"], l, adapter.rank))
    if adapter.experts > 1:
        check_shape(f"{name}.router", parts["router"], (adapter.slots, d))
    if adapter.fixed:
        check_shape(f"{name}.fixed_A", parts["fixed_A"], (adapter.fixed, d))
        check_shape(f"{name}.fixed_B", parts["fixed_B"], (l, adapter.fixed))


def _folded(
    adapter: Adapter, modules: Mapping[str, Mapping[str, Tensor]]
) -> tuple[Adapter, dict[str, dict[str, Tensor]]]:
    """One plain LoRA of rank r + R and alpha = rank that is the adapter and its frozen companion together.

    It has rank R where the adapter adds nothing yet: all B are 0.
    """
    if not any(parts["B"].any() for parts in modules.values()):
        only = {n: {"A": parts["fixed_A"], "B": parts["fixed_B"]} for n, parts in modules.items()}
        return Adapter(adapter.fixed, alpha=float(adapter.fixed)), only
    rank, scale = adapter.rank + adapter.fixed, adapter.alpha / adapter.rank
    plain = Adapter(rank, alpha=float(rank), dropout=adapter.dropout)
    return plain, {
        name: {
            "A": torch.cat([parts["A"], parts["fixed_A"]]),
            "B": torch.cat([scale * parts["B"], parts["fixed_B"]], dim=1),
        }
        for name, parts in modules.items()
    }


def _write(folder: str | os.PathLike[str], config: dict[str, Any], tensors: Weights) -> None:
    path = Path(folder)
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    text = json.dumps(plain, indent=2, sort_keys=True) + "\n"
    ready = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FedLeaseError(f"cannot make the folder {path}: {error.strerror or error}") from error
    write_bytes(path / TENSORS, save(ready, metadata={"format": "pt"}))
    write_bytes(path / CONFIG, text.encode())


def read_config(path: Path) -> dict[str, Any]:
    """Read the config of an adapter's folder; a `FedLeaseError` where there is none that can be read."""
    file = path / CONFIG
    if not file.is_file():
        raise FedLeaseError(f"{file}: no such file, so {path} is not a PEFT adapter folder")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FedLeaseError(f"{file}: cannot be read as JSON ({error})") from error
    if not isinstance(config, dict):
        raise FedLeaseError(f"{file}: should hold a JSON object")
    return config


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of an adapter's folder; a `FedLeaseError` where there are none that can be read."""
    file = path / TENSORS
    if not file.is_file():
        pickled = (path / "adapter_model.bin").is_file()
        why = (
            "adapter_model.bin is a pickle and is not read, save it with safetensors"
            if pickled
            else "no such file"
        )
        raise FedLeaseError(f"{file}: {why}")
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise FedLeaseError(f"{file}: cannot be read as safetensors ({error})") from error
