"""Quantised bases by bitsandbytes and torchao: loading them, and keeping them exact and trainable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, PreTrainedConfig, TorchAoConfig

from fedlease.core.errors import FedLeaseError
from fedlease.core.seeds import derive
from fedlease.training.heads import in_head
from fedlease.training.precision import Quantization
from fedlease.training.shapes import HEADS

_LIBRARIES = {"bnb-8bit": "bitsandbytes", "bnb-4bit": "bitsandbytes", "torchao-int8": "torchao"}


def libraries(quantization: Quantization) -> tuple[str, ...]:
    """Return what it takes to load a base quantised so; accelerate puts modules on their device."""
    return () if quantization == "none" else (_LIBRARIES[quantization], "accelerate")


def load(
    kind: Any, name: str, path: str, quantization: Quantization, device: str, seed: int, **options: Any
) -> tuple[Any, dict[str, Any]]:
    """Load a model of transformers, quantised as asked for.

    Linear modules are quantised, all but those that transformers leaves out (the output layer of a language
    model), a classifier's head, and what the checkpoint lacks: those are drawn by the seed. 4 bits are NF4
    with quantised scales, as in QLoRA; what is computed is in the precision of the other modules.

    Args:
        kind: a class with ``from_pretrained``, such as AutoModelForCausalLM.
        name: what messages call the model.
        path: its folder or hub id.
        quantization: of its linear modules. A checkpoint that is quantised already is loaded as it is, where
            this says the same.
        device: ``"cpu"`` or ``"cuda"``.
        seed: what the checkpoint lacks is drawn from it.
        options: of ``from_pretrained``; ``dtype`` among them.

    Returns:
        The model, and what ``from_pretrained`` tells of missing and mismatched keys.

    Raises:
        FedLeaseError: a library is not installed, the checkpoint is quantised otherwise, or there is nothing
            in the model to quantise.
    """

    def made(skip: Iterable[str] | None) -> tuple[Any, dict[str, Any]]:
        torch.manual_seed(derive(seed, "base"))
        if quantization != "none":
            options["device_map"] = {"": device}  # or bitsandbytes takes a GPU where there is one
        if quantization != "none" and held is None:
            options["quantization_config"] = _config(quantization, options["dtype"], skip)
        model, told = kind.from_pretrained(path, output_loading_info=True, **options)
        return model, told

    _check_installed(quantization)
    held = in_checkpoint(path)
    if held not in (None, quantization):
        way = f'set model.quantization = "{held}", or name' if held in _LIBRARIES else "name"
        raise FedLeaseError(
            f"model {name}: its checkpoint is quantised already, by {held}: {way} the model it was made from"
        )
    model, told = made(HEADS if "num_labels" in options else None)
    if quantization == "none":
        return model, told
    unfit = sorted(_unfit(model, told["missing_keys"]))
    if unfit and held:
        raise FedLeaseError(f"model {name}: {unfit[0]} is quantised, and its checkpoint has no use of it")
    if unfit:
        model, told = made([*model.hf_quantizer.modules_to_not_convert, *unfit])
    if not any(map(is_quantised, model.parameters())):
        raise FedLeaseError(f"model {name}: it has no linear module that {quantization} can quantise")
    for module in model.modules():
        _mend(module, device)
    return model, told


def in_checkpoint(path: str) -> str | None:
    """Return how the weights of a folder or hub id are quantised: a `Quantization`, another word, or None."""
    held = PreTrainedConfig.get_config_dict(path)[0].get("quantization_config")
    if not held:
        return None
    if held.get("load_in_4bit") or held.get("load_in_8bit"):  # early ones name no method
        return "bnb-4bit" if held.get("load_in_4bit") else "bnb-8bit"
    if "Int8WeightOnlyConfig" in str(held.get("quant_type")):
        return "torchao-int8"
    return str(held.get("quant_method", "an unknown method"))


def is_quantised(parameter: Tensor) -> bool:
    """Tell whether a model's parameter is kept in fewer bits than it is computed with."""
    return type(parameter) is not nn.Parameter


def stored(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield every plain tensor behind a model's parameters by name: of quantised ones numbers and scales.

    Tied parameters come once, and the others as they are.
    """
    for name, parameter in model.named_parameters():
        yield from _plain(name, parameter)
    for path, module in model.named_modules():
        if type(module).__module__.startswith("bitsandbytes"):  # keeps scales beside its parameters
            for name, tensor in module.state_dict().items():
                if name not in ("weight", "bias"):
                    yield f"{path}.{name}", tensor


def _plain(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    if not hasattr(tensor, "__tensor_flatten__"):
        yield name, tensor
        return
    for inner in tensor.__tensor_flatten__()[0]:
        yield from _plain(f"{name}.{inner}", getattr(tensor, inner))


def _check_installed(quantization: Quantization) -> None:
    for library in libraries(quantization):
        if find_spec(library) is None:
            raise FedLeaseError(
                f"model.quantization is {quantization}, and {library} is not installed: "
                "pip install 'fedlease[quantization]'"
            )


def _config(quantization: Quantization, dtype: torch.dtype, skip: Iterable[str] | None) -> Any:
    modules = None if skip is None else list(skip)
    if quantization == "bnb-8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=modules)
    if quantization == "bnb-4bit":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=modules,
        )
    from torchao.quantization import Int8WeightOnlyConfig

    # Its settings for torch.compile would change the precision of all products of the process.
    eight = Int8WeightOnlyConfig(set_inductor_config=False, version=2)
    return TorchAoConfig(eight, modules_to_not_convert=modules)


def _unfit(model: Any, missing: Iterable[str]) -> Iterator[str]:
    """Modules that are quantised and must not be: heads, and those without numbers in the checkpoint."""
    lacking = {key.rpartition(".")[0] for key in missing}
    for path, module in model.named_modules():
        packed = isinstance(module, nn.Linear) and type(module) is not nn.Linear
        packed |= any(map(is_quantised, module.parameters(recurse=False)))
        if packed and (path in lacking or in_head(path)):
            yield path


def _mend(module: nn.Module, device: str) -> None:
    """Take away what modules of bitsandbytes do on CPUs and a base that is trained on cannot have.

    In evaluation those of 4 bits repack their weights for good, where the CPU has AVX512-BF16, into a form
    that passes no gradients on: training would stop without a word after the first evaluation. Those of 8
    bits quantise activations in evaluation, and not in training; which of their columns are left out depends
    on all rows of a batch, so that a row's logits would not be its own. In training they keep their inputs,
    for a gradient of the weight that nobody asks for, also where checkpointing would let them go.
    """
    if hasattr(module, "support_avx512bf16_for_cpu"):
        module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
    if device == "cpu" and type(module).__name__ == "Linear8bitLt":
        module.register_forward_pre_hook(_as_in_training)
        module.register_forward_hook(_forget_input)


def _as_in_training(module: nn.Module, _: tuple[Tensor, ...]) -> None:
    module.training = True


def _forget_input(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
    if hasattr(output.grad_fn, "A"):
        output.grad_fn.A = None  # type: ignore[union-attr]
