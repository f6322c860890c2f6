"""What an exported folder holds and how it is loaded, in words and code, for its model card."""

from __future__ import annotations

from dataclasses import dataclass

from fedlease.core.adapter import Adapter


@dataclass(frozen=True)
class Holds:
    """What is in an exported folder.

    Attributes:
        form: one of `export.FORMS`.
        adapter: what the client uses.
        rank: of each LoRA in the folder.
        folded: whether it is an approximation.
    """

    form: str
    adapter: Adapter
    rank: int
    folded: bool


def what(holds: Holds) -> str:
    """Say what a folder holds."""
    experts, rank = holds.adapter.experts, holds.rank
    if holds.form == "experts":
        router = f" {_router(holds.adapter)}" if experts > 1 else ""
        return f"{experts} LoRA of rank {rank}, stock PEFT, each in a folder of its own.{router}"
    if holds.form == "fedlease" and experts > 1:
        return f"A mixture of {experts} LoRA experts of rank {rank}, with a router in each adapted module."
    if holds.folded and experts > 1:
        return (
            f"One LoRA of rank {rank} in the place of a mixture of {experts} experts, fitted to it over the "
            "client's training data."
        )
    return f"A LoRA adapter of rank {rank}."


def _router(adapter: Adapter) -> str:
    M = adapter.experts
    rule = (
        f"a softmax over {M} slots, the assigned expert's first and the others' in their order, of which the "
        f"{adapter.top_k} largest count"
    )
    if adapter.top_k is None:
        rule = (
            f"a softmax over {adapter.slots} slots of which the {M} largest count; the first {M} slots are "
            "all the assigned expert's, the rest the other experts' in their order"
        )
    scaled = "; what counts is rescaled to sum to 1" if adapter.normalize else ""
    return (
        "In every adapted module the client's model adds up their updates, for each token with the weights "
        f"of a router. `router.safetensors` holds it, [{adapter.slots}, inputs] for each module, and "
        f"`router.json` its settings: it is {rule}{scaled}. The assigned expert is {adapter.assigned}."
    )


def code(holds: Holds, labels: int) -> str:
    """Return the Python that loads a folder on a base model; ``labels`` is 0 for a language model."""
    kind = "AutoModelForSequenceClassification" if labels else "AutoModelForCausalLM"
    path = "config.base_model_name_or_path" + (f", num_labels={labels}" if labels else "")
    mixture = holds.form == "fedlease" and holds.adapter.experts > 1
    folder = "expert-0" if holds.form == "experts" else "."
    lines = [
        *(["import fedlease.tuner  # makes PEFT know the mixture"] if mixture else []),
        "from peft import PeftConfig, PeftModel",
        f"from transformers import {kind}",
        "",
        f'config = PeftConfig.from_pretrained("{folder}")',
        f"base = {kind}.from_pretrained({path})",
        f'model = PeftModel.from_pretrained(base, "{folder}").eval()',
    ]
    return "\n".join(lines)
