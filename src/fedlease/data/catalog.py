"""Data sets by name: four tasks of GLUE, sixteen instruction tasks of FLAN, and the generated tasks.

Another data set is another entry of `GLUE` (or a dictionary like it), or another file in
`fedlease.data.generated`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from fedlease.core.errors import FedLeaseError
from fedlease.data import generated
from fedlease.data.sources import Source


def _glue(task: str, text: tuple[str, ...], labels: tuple[str, str]) -> Source:
    return Source(
        text=text,
        label="label",
        labels=labels,
        train=f"glue/{task}/train.jsonl",
        test=f"glue/{task}/dev.jsonl",
        hub="nyu-mll/glue",
        hub_config=task,
        test_split="validation",  # the labels of GLUE's own test rows are secret
    )


GLUE: Mapping[str, Source] = {
    "sst2": _glue("sst2", ("sentence",), ("negative", "positive")),
    "qnli": _glue("qnli", ("question", "sentence"), ("entailment", "not_entailment")),
    "mrpc": _glue("mrpc", ("sentence1", "sentence2"), ("not_equivalent", "equivalent")),
    "qqp": _glue("qqp", ("question1", "question2"), ("not_duplicate", "duplicate")),
}
"""A. Wang et al., "GLUE: A Multi-Task Benchmark and Analysis Platform", ICLR 2019."""


def _flan(task: str) -> Source:
    folder = f"flan/{task}"
    return Source(
        prompt=("instruction",), answer="output", train=f"{folder}/train.jsonl", test=f"{folder}/test.jsonl"
    )


FLAN: Mapping[str, Source] = {
    "flan_qnli" if task == "qnli" else task: _flan(task)  # GLUE has the other name
    for task in (
        "arc_easy",
        "bool_q",
        "cola",
        "definite_pronoun_resolution",
        "fix_punct",
        "gigaword",
        "glue_qqp",
        "hellaswag",
        "paws_wiki",
        "qnli",
        "sentiment140",
        "snli",
        "trec",
        "web_nlg_en",
        "wic",
        "word_segment",
    )
}
"""J. Wei et al., "Finetuned Language Models Are Zero-Shot Learners", ICLR 2022: files with the columns
instruction and output, such as those that Y. Yang et al. drew for FedDPA, NeurIPS 2024."""

GENERATED: Mapping[str, Source] = {
    name: Source(generated=name, labels=generated.labels(name)) for name in generated.names()
}
"""Small texts made on the spot; see `fedlease.data.generated`."""

CATALOG: Mapping[str, Source] = {**GLUE, **FLAN, **GENERATED}
"""Every data set that has a name."""


def find(name: str) -> Source:
    """Return the source of a named data set.

    Raises:
        FedLeaseError: no such name; the message lists those there are.
    """
    try:
        return CATALOG[name]
    except KeyError:
        raise FedLeaseError(f"no data set is called '{name}'; there are: {', '.join(CATALOG)}") from None


def demo_tasks(kind: Literal["folder", "hub", "generated"]) -> tuple[str, ...]:
    """Return the four data sets a demonstration uses, given where data is (`where.Location.kind`)."""
    return tuple(GENERATED if kind == "generated" else GLUE)
