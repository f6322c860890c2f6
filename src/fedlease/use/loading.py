"""A client's model as other programs know it: a transformers model with a PEFT adapter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from fedlease.core.adapter import Model
from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import ClientId
from fedlease.tuner.export import save_lora, save_mixture
from fedlease.use.finished import Finished, open_run


def load(run: str | Path, client: ClientId, *, model: str | Path | None = None) -> Any:
    """Return what a client uses at the end of a run, as a `peft.PeftModel` on the run's base model.

    It is in evaluation mode, in the number format that it was trained in, and knows the names of the client's
    labels: ``pipeline("text-classification", model=found, tokenizer=found.name_or_path)``.

    Args:
        run: the folder of a finished run.
        client: whose model.
        model: where the base model lies, if it has moved.

    Raises:
        FedLeaseError: the run is unfinished, damaged, or of another version; its base model is missing or
            another one; there is no such client.
    """
    from peft import PeftModel

    finished = open_run(run, model)
    used = finished.model(client)
    network: Any = finished.base.model
    labels = finished.labels(client)
    if labels:
        setattr(network, finished.base.head_name, finished.base.heads[len(labels)])
        network.config.id2label = dict(enumerate(labels))
        network.config.label2id = {label: number for number, label in enumerate(labels)}
        network.num_labels = len(labels)
    with TemporaryDirectory() as folder:
        write(finished, client, used, Path(folder), finished.base.path)
        return PeftModel.from_pretrained(network, folder).eval()


def write(finished: Finished, client: ClientId, used: Model, folder: Path, name: str) -> None:
    """Write an adapter with all that its base lacks as a PEFT folder: stock LoRA where it has one expert.

    Args:
        finished: the run.
        client: whose head goes with it.
        used: the adapter.
        folder: made if missing.
        name: what the folder says of where the base model is.

    Raises:
        FedLeaseError: the folder cannot be written, or the base cannot be used as it is.
    """
    save = save_lora if used.adapter.experts == 1 else save_mixture
    saved = lacking(finished, client)
    save(used, folder, name, "SEQ_CLS" if finished.base.heads else "CAUSAL_LM", saved)


def lacking(finished: Finished, client: ClientId) -> dict[str, Mapping[str, Tensor]]:
    """The modules that the base's checkpoint lacks, in float32: the client's head, and what the seed gave."""
    base, labels = finished.base, finished.labels(client)
    paths = {name.rpartition(".")[0] for name in base.drawn}
    adapted = sorted(paths & set(base.modules))
    if adapted:
        raise FedLeaseError(
            f"{base.path} has no weights for {adapted[0]}, which is adapted: complete the model"
        )
    modules = {path: base.model.get_submodule(path) for path in sorted(paths)}
    if labels:
        modules[base.head_name] = base.heads[len(labels)]
    return {
        path: {name: tensor.float() for name, tensor in module.state_dict().items()}
        for path, module in modules.items()
    }
