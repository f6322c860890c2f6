"""The model card that goes with an exported folder: what it is and how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedlease import __version__
from fedlease.core.protocols import ClientId
from fedlease.report.records import scored_rows
from fedlease.training.models import KNOWN, known_as
from fedlease.use.finished import Finished

LICENCES = {"minilm": "apache-2.0", "smollm2": "apache-2.0", "roberta-large": "mit", "llama-2-7b": "llama2"}
"""Of the base models known by name; others say it in the README beside their weights, or it is not known."""


@dataclass(frozen=True)
class Subject:
    """What a card is about.

    Attributes:
        client: whose model it is.
        base: what the base model is called.
        what: a sentence on what the folder holds.
        use: code that loads it.
        kept: what the form costs.
    """

    client: ClientId
    base: str
    what: str
    use: str
    kept: str


def card(finished: Finished, subject: Subject) -> str:
    """Return the README.md of an exported folder: front matter for a hub, then Markdown."""
    record, task = finished.record, finished.spec.clients[0].task
    licence = licence_of(finished)
    front = {
        "library_name": "peft",
        "base_model": subject.base,
        "pipeline_tag": "text-generation" if task == "generation" else "text-classification",
        **({"license": licence} if licence else {}),
    }
    head = "\n".join(f"{key}: {value}" for key, value in front.items())
    lines = [
        f"---\n{head}\ntags:\n- lora\n- federated-learning\n- fedlease\n---",
        f"# {subject.client}: {record['spec']['method']['name']} on {Path(subject.base).name}",
        subject.what,
        f"```python\n{subject.use}\n```",
        subject.kept,
        "## Base model",
        _base(finished, subject.base, licence),
        "## Training",
        _training(finished),
        "## Clients",
        "Their rows never left them and are not part of this.",
        _clients(finished),
    ]
    return "\n\n".join(lines) + "\n"


def licence_of(finished: Finished) -> str | None:
    """Return the licence of a run's base model, by its README or by its name; None where neither tells."""
    name = finished.spec.model.name
    readme = Path(finished.places.model) / "README.md"
    if readme.is_file():
        front = readme.read_text(encoding="utf-8", errors="replace").split("---")[1:2]
        for line in "".join(front).splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "license" and value.strip():
                return value.strip()
    known = known_as(name)
    return next((LICENCES.get(key) for key, entry in KNOWN.items() if known is entry), None)


def _base(finished: Finished, name: str, licence: str | None) -> str:
    known = known_as(finished.spec.model.name)
    packed = (
        f" They are those of the Python package {known.package}, unpacked from {known.gguf}: on the full "
        "weights the adapter does not do quite the same."
        if known and known.gguf
        else ""
    )
    told = f"Its licence: {licence}." if licence else "Its licence is not known here: look it up."
    fingerprint = finished.record["model"]["fingerprint"]
    return f"`{name}`, weights with the fingerprint `{fingerprint}`.{packed} {told}"


def _training(finished: Finished) -> str:
    record, training = finished.record, finished.spec.training
    settings = {key: value for key, value in record["spec"]["method"].items() if key != "name"}
    told = ", ".join(f"{key} {value}" for key, value in settings.items())
    return (
        f"Federated with fedlease {__version__}: method {record['spec']['method']['name']} ({told}), "
        f"{len(record['rounds'])} rounds of {training.epochs} epochs, AdamW at {training.learning_rate:g}, "
        f"batches of {training.batch_size}, seed {record['seed']}."
    )


def _clients(finished: Finished) -> str:
    """Every client with its number of rows, its expert, and its score."""
    record, metric = finished.record, finished.run.metric
    allocation, metrics = finished.run.allocation, finished.run.metrics
    experts: Mapping[str, int] = {}
    if allocation is not None:
        experts = allocation.owners
    lines = [
        f"| client | training rows | {scored_rows(record)} | labels | expert | {metric} |",
        "|---|---|---|---|---|---|",
    ]
    for client, facts in sorted(record["clients"].items()):
        score = metrics.get(client, {}).get(metric)
        cells = [
            client,
            facts["train_rows"],
            facts["test_rows"],
            ", ".join(facts["labels"]),
            experts.get(client, ""),
            "" if score is None else f"{100 * score:.1f} %",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)
