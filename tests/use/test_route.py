"""`fedlease route`: every candidate's score against full matrices added to the base by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from trained import batch_of, deployed, examples_of
from transformers import AutoModelForSequenceClassification

import fedlease
from fedlease.experiments.results import Run
from fedlease.experiments.spec import make_spec
from fedlease.tuner import FedLeaseLayer
from fedlease.use.finished import open_run
from fedlease.use.route import candidates


def labelled(run: Run, client: str, path: Path) -> Path:
    """A client's test rows as a file with the names of their labels."""
    names = run.record["clients"][client]["labels"]
    columns = ("text", "text_pair")
    rows = [
        {**dict(zip(columns, row.texts, strict=False)), "label": names[row.label]}
        for row in examples_of(run, client)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def updates(run: Run, client: str) -> dict[str, list[torch.Tensor]]:
    """``alpha / r B_m A_m`` of every expert of each module, in float64."""
    _, network = deployed(run, client)
    found = {}
    for path, layer in network.named_modules():
        if isinstance(layer, FedLeaseLayer):
            A, B, _ = layer.read(layer.active_adapters[0])
            found[path] = [16 / 2 * b.double() @ a.double() for a, b in zip(A, B, strict=True)]
    return found


@torch.no_grad()
def by_hand(run: Run, client: str, base: Path, weights: list[float]) -> tuple[float, float]:
    """Loss and accuracy on the client's test rows of the base with a constant mixture of full matrices."""
    network = AutoModelForSequenceClassification.from_pretrained(base).eval()
    network.classifier.load_state_dict(load_file(run.folder / "heads" / "2.safetensors"))
    for path, each in updates(run, client).items():
        linear = network.get_submodule(path)
        assert isinstance(linear, nn.Linear)
        linear.weight += sum(w * update for w, update in zip(weights, each, strict=True)).float()
    site, _ = deployed(run, client)
    labels = torch.tensor(site.test_rows.labels)
    logits = network(**batch_of(site)).logits
    loss = functional.cross_entropy(logits.double(), labels)
    return float(loss), float((logits.argmax(-1) == labels).double().mean())


def test_every_candidate_is_scored(command: Any, run: Run, tiny: Path, tmp_path: Path) -> None:
    path = labelled(run, "answers-1", tmp_path / "new.jsonl")
    code, shown, _ = command("route", run.folder, "--data", path, "--json")
    assert code == 0
    found = json.loads(shown)
    assert (found["rows"], found["metric"]) == (20, "accuracy")
    assert found["labels"] == run.record["clients"]["answers-1"]["labels"]
    fits = {fit["name"]: fit for fit in found["fits"]}
    expected = {
        "expert 0 alone": [1.0, 0.0],
        "expert 1 alone": [0.0, 1.0],
        "the uniform mixture": [0.5, 0.5],
        "the base model alone": [0.0, 0.0],
    }
    for name, weights in expected.items():
        loss, accuracy = by_hand(run, "answers-1", tiny, weights)
        assert fits[name]["loss"] == pytest.approx(loss, abs=1e-4)
        assert fits[name]["metrics"] == pytest.approx({"accuracy": accuracy})
        assert fits[name]["clients"] == []
    labels = run.record["allocation"]["labels"]
    clients = ["answers-0", "answers-1", "tone-0", "tone-1"]
    clusters = [
        [c for c, of in zip(clients, labels, strict=True) if of == label] for label in sorted({*labels})
    ]
    assert sorted(fit["clients"] for fit in found["fits"] if fit["kind"] == "client") == clusters
    own = next(fit for fit in found["fits"] if "answers-1" in fit["clients"])
    assert own["metrics"] == pytest.approx(run.metrics["answers-1"])
    order = [(-fit["metrics"]["accuracy"], fit["loss"]) for fit in found["fits"]]
    assert order == sorted(order)
    best, second = found["fits"][:2]
    said = found["answer"]
    assert said.lower().startswith(f"{best['name']} fits these 20 rows best: accuracy ")
    assert f"{100 * best['metrics']['accuracy']:.1f} %, loss {best['loss']:.3f}" in said
    assert f"next is {second['name']}" in said
    code, shown, _ = command("route", run.folder, "--data", path)
    assert code == 0
    assert said in shown


def test_own_columns(command: Any, run: Run, tmp_path: Path) -> None:
    """The same rows under other names, with the labels as numbers, give the same."""
    path = labelled(run, "tone-0", tmp_path / "new.jsonl")
    names = run.record["clients"]["tone-0"]["labels"]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    other = tmp_path / "other.csv"
    other.write_text("mail,class\n" + "".join(f'"{r["text"]}",{names.index(r["label"])}\n' for r in rows))
    code, _, complaint = command("route", run.folder, "--data", other)
    assert (code, complaint.count("\n")) == (2, 1)
    assert (
        "has the columns class, mail, the run's clients have text, text_pair, label; text, label" in complaint
    )
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "new.parquet")
    options = ("--text", "mail", "--label", "class", "--labels", names[0], "--labels", names[1], "--json")
    asked = ((other, *options), (tmp_path / "new.parquet", "--json"), (path, "--json"))
    mine, packed, lines = (json.loads(command("route", run.folder, "--data", *each)[1]) for each in asked)
    assert mine == packed == lines


def test_one_adapter_for_all(run: Run, plain: Run) -> None:
    assert [each.name for each in candidates(open_run(plain.folder))] == [
        "the model of answers-0, answers-1, tone-0 and tone-1",
        "the base model alone",
    ]
    assert len(candidates(open_run(run.folder))) == 2 + 2 + 1 + 1


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        (None, (), "new.csv: no such file"),
        ("text,label\na,1\n", ("--prompt", "text", "--answer", "label"), "is about texts and labels"),
        ("text,label\na,1\nb,2\nc,3\n", ("--text", "text"), "has 3 labels, the clients of the run have 2"),
        ("text,label\na,good\nb,blue\n", (), "new.csv:2: label 'good' in column 'label' is none of"),
        ("text,label\n,1\n", (), "new.csv:2: the text in column 'text' is empty"),
    ],
)
def test_data_that_does_not_fit(
    command: Any, run: Run, tmp_path: Path, content: str | None, options: Any, says: str
) -> None:
    path = tmp_path / "new.csv"
    if content is not None:
        path.write_text(content)
    code, _, complaint = command("route", run.folder, "--data", path, *options)
    assert (code, complaint.count("\n")) == (2, 1)
    assert says in complaint


def test_prompts_and_answers(command: Any, writer: Run, tmp_path: Path) -> None:
    path = tmp_path / "new.jsonl"
    path.write_text("".join(json.dumps({"ask": f"say {n}", "say": str(n)}) + "\n" for n in range(3)))
    code, shown, _ = command("route", writer.folder, "--data", path, "--json")
    found = json.loads(shown)
    assert (code, found["metric"], found["labels"], found["rows"]) == (0, "rouge1", [], 3)
    assert all(set(fit["metrics"]) == {"rouge1", "rougeL", "exact_match"} for fit in found["fits"])


def test_clients_with_routers_of_their_own_are_candidates_each(
    classes: dict[str, Any], tmp_path: Path
) -> None:
    spec = {**classes, "method": {**classes["method"], "router": "local"}, "rounds": 2}
    assert make_spec(spec).method["router"] == "local"
    opened = open_run(fedlease.run(spec, tmp_path / "run").folder)
    kinds = [each.kind for each in candidates(opened)]
    assert {kind: kinds.count(kind) for kind in kinds} == {"client": 4, "expert": 2, "uniform": 1, "base": 1}
