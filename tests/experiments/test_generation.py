"""Whole runs of the task generation: what the record tells, what adapters write, what cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from rich.console import Console
from runs import Make, federation_of, files, scores
from transformers import AutoModelForCausalLM, AutoTokenizer

import fedlease
from fedlease.algorithms.registry import methods
from fedlease.core.adapter import Model
from fedlease.core.errors import FedLeaseError
from fedlease.experiments.pace import measured_here
from fedlease.experiments.places import settle
from fedlease.experiments.prepare import read_rows
from fedlease.experiments.spec import make_spec, read_spec
from fedlease.experiments.work import KINDS
from fedlease.report.summary import run_report
from fedlease.tasks.base import Encoded
from fedlease.tasks.inference import Inference
from fedlease.tasks.written import options
from fedlease.training.site import TorchSite

SMALL = {"rank": 2, "warmup_rounds": 1, "experts": 2}
"""Settings for little work, where a method has them."""

METHODS = {
    name: {"name": name, **{key: value for key, value in SMALL.items() if key in method.options()}}
    for name, method in methods().items()
}


@pytest.fixture
def spec(tiny_llama: Path, tmp_path: Path) -> dict[str, Any]:
    """Two kinds of clients, one with columns and one with chats, on the tiny Llama."""
    plain = [{"ask": f"say {n:03d}", "say": f"{n:03d}"} for n in range(80)]
    chats = [
        {
            "talk": [
                {"role": "user", "content": f"is {n} even?\nOPTIONS:\n- yes\n- no"},
                {"role": "assistant", "content": "no" if n % 2 else "yes"},
            ]
        }
        for n in range(80)
    ]
    for name, rows in (("plain", plain), ("chats", chats)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = {"count": 2, "train_rows": 16, "test_rows": 6}
    return {
        "name": "small",
        "rounds": 3,
        "model": {"name": str(tiny_llama), "threads": 1, "precision": "float32", "max_length": 64},
        "method": METHODS["fedlease"],
        "training": {"batch_size": 8, "epochs": 1, "learning_rate": 0.01},
        "generation": {"template": "Q: {prompt}\nA: ", "max_new_tokens": 6},
        "clients": [
            {
                "name": "plain",
                "train": str(tmp_path / "plain.jsonl"),
                "prompt": ["ask"],
                "answer": "say",
                **common,
            },
            {"name": "chats", "train": str(tmp_path / "chats.jsonl"), "messages": "talk", **common},
        ],
    }


def problem(spec: dict[str, Any]) -> str:
    with pytest.raises(FedLeaseError) as caught:
        federation_of(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_runs_on_it(method: str, spec: dict[str, Any], tmp_path: Path) -> None:
    run = fedlease.run({**spec, "method": METHODS[method]}, tmp_path / "run")
    record = run.record
    assert (record["status"], record["metric"]) == ("complete", "rouge1")
    assert record["spec"]["generation"] == spec["generation"]
    assert 0 <= run.score <= 1
    for client, found in run.metrics.items():
        named = {"rouge1", "rougeL", "exact_match"}
        assert set(found) == (named if client.startswith("plain") else {*named, "accuracy"})
    facts = record["clients"]["chats-1"]
    assert (facts["labels"], facts["label_counts"]) == ([], {"train": [], "test": []})
    assert facts["cut_rows"] == {"train": 0, "test": 0}
    assert not (run.folder / "heads").exists()
    assert all((run.adapter(client) / "adapter_model.safetensors").is_file() for client in run.metrics)
    assert record["rounds"][-1]["loss"].keys() == run.metrics.keys() == record["clients"].keys()
    screen = Console(width=150, record=True)
    screen.print(run_report(record))
    assert "ROUGE-1 after round 3 (%)" in screen.export_text()


def test_training_learns_the_answers(spec: dict[str, Any], tmp_path: Path) -> None:
    spec["training"] = {"batch_size": 8, "epochs": 6, "learning_rate": 0.02}
    losses = [entry["loss"] for entry in fedlease.run(spec, tmp_path / "run").record["rounds"]]
    assert all(losses[-1][client] < 0.8 * losses[0][client] for client in losses[0])


def test_the_order_of_clients_changes_nothing_and_a_resumed_run_is_the_same(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fedlease.run(spec, tmp_path / "whole")
    turned = fedlease.run({**spec, "clients": spec["clients"][::-1]}, tmp_path / "turned")
    with monkeypatch.context() as patch:
        patch.setattr("fedlease.experiments.run._write_adapters", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fedlease.run(spec, tmp_path / "cut")
    again = fedlease.resume(tmp_path / "cut")
    for other in (turned, again):
        assert files(other.folder) == files(whole.folder)
        assert scores(other.folder) == scores(whole.folder)
    assert again.record["spec"] == whole.record["spec"]


@pytest.mark.parametrize("method", ["fedlease", "ffa_lora"])
def test_saved_adapters_load_with_peft_and_write_the_same(
    method: str, spec: dict[str, Any], tmp_path: Path, tiny_llama: Path
) -> None:
    spec["method"] = METHODS[method]
    run = fedlease.run(spec, tmp_path / "run")
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    site = federation_of(spec).sites["chats-0"]
    rows = site.test_rows
    base = AutoModelForCausalLM.from_pretrained(tiny_llama, attn_implementation="sdpa")
    model = PeftModel.from_pretrained(base, run.adapter("chats-0")).eval()
    assert model.peft_config["default"].task_type == "CAUSAL_LM"
    texts = []
    for ids, start in zip(rows.input_ids, rows.labels, strict=True):
        prompt = torch.tensor([ids[:start]])
        out = model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=6,
            pad_token_id=0,
        )
        texts.append(tokenizer.decode(out[0, start:], skip_special_tokens=True).strip())
    same = Encoded(rows.input_ids, None, rows.labels, 0, rows.answers, rows.options)
    how = Inference(tokenizer, 0, 4, torch.device("cpu"), lambda step: None)
    with torch.inference_mode():
        assert site.task.score(base, same, how) == run.metrics["chats-0"]
    exact = sum(text == answer for text, answer in zip(texts, rows.answers, strict=True))
    assert run.metrics["chats-0"]["exact_match"] == pytest.approx(exact / len(texts))


def test_its_pace_is_measured_with_a_model_that_was_trained(
    spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row takes as long as the text that is written: so the measured one must be a trained model's."""
    scored: list[bool] = []
    score = TorchSite.score

    def told(site: TorchSite, model: Model) -> Any:
        scored.append(all(bool(t.any()) for name, t in model.weights.items() if name.endswith(".B")))
        return score(site, model)

    monkeypatch.setattr(TorchSite, "score", told)
    found = measured_here(make_spec(spec))
    assert all(0 < found[group][kind] < 10 for group in ("plain", "chats") for kind in KINDS)
    assert len(scored) >= 2
    assert all(scored)  # B is zero before training


def test_rows_that_do_not_fit_name_their_client(spec: dict[str, Any]) -> None:
    spec["model"]["max_length"] = 12
    assert problem(spec).startswith("client chats-0, training rows: row 0 ('is ")


def test_cut_rows_are_counted(spec: dict[str, Any]) -> None:
    spec["model"]["max_length"] = 40
    clients = federation_of(spec).clients
    assert clients["chats-0"]["cut_rows"] == {"train": 16, "test": 6}
    assert clients["plain-0"]["cut_rows"] == {"train": 0, "test": 0}


def test_a_model_that_writes_nothing(spec: dict[str, Any], tiny: Path) -> None:
    spec["model"]["name"] = str(tiny)
    assert problem(spec) == (
        f"model {tiny} is no causal language model: a bert model reads in both directions; name one, such as "
        "smollm2"
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"prompt": ["a"]}, "clients.0: generation needs the columns prompt and answer, or messages"),
        ({"answer": "b"}, "clients.0: generation needs the columns prompt and answer, or messages"),
        ({"prompt": ["a"], "answer": "b", "messages": "c"}, "clients.0: generation needs the columns prompt"),
        ({"messages": "c", "text": ["a"]}, "clients.0: text means nothing beside generation: leave it out"),
        (
            {"prompt": ["a"], "answer": "b", "task": "classification"},
            "clients.0: answer means nothing beside",
        ),
        (
            {"train": None, "data": "web_nlg_en", "task": "classification"},
            "clients.0: web_nlg_en has prompts",
        ),
        ({"train": None, "data": "sst2", "task": "generation"}, "clients.0: sst2 has texts and labels, and"),
        ({"train": None, "data": ["sst2", "hellaswag"]}, "clients.0: sst2 has texts and labels, and"),
        ({"train": None, "data": "sst2"}, "clients: their tasks are classification and generation; a"),
        (
            {"messages": "c", "count": 2, "split": {"by": "dirichlet", "alpha": 1.0}},
            "clients.0: split by dirichlet is by labels, and generation has none: use quantity",
        ),
    ],
)
def test_clients_that_cannot_be(changes: dict[str, Any], expected: str) -> None:
    first = {"name": "a", "train": "x.jsonl", **changes}
    first = {key: value for key, value in first.items() if value is not None}
    with pytest.raises(FedLeaseError) as caught:
        make_spec({"clients": [first, {"name": "b", "data": "hellaswag"}]})
    assert str(caught.value).removeprefix("spec: ").startswith(expected)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"template": "{instruction}"},
            "generation.template is '{instruction}': it must be one of alpaca, chat",
        ),
        ({"max_new_tokens": 0}, "generation.max_new_tokens is 0: it must be above 0"),
        ({"beams": 2}, "generation.beams: there is no such key; known here: template, max_new_tokens"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(FedLeaseError) as caught:
        make_spec({"generation": settings, "clients": [{"name": "b", "data": "trec", "count": 2}]})
    assert str(caught.value).removeprefix("spec: ").startswith(expected)


def test_specs_of_classification_tell_nothing_of_generation() -> None:
    content = {"clients": [{"name": "b", "data": "sst2", "count": 2}]}
    told = make_spec(content).model_dump(mode="json")
    assert "generation" not in told
    assert not {"prompt", "answer", "messages"} & told["clients"][0].keys()
    with pytest.raises(FedLeaseError, match="generation: means nothing where the clients' task is class"):
        make_spec({**content, "generation": {"max_new_tokens": 5}})
    told = make_spec({"clients": [{"name": "b", "data": "trec", "count": 2}]}).model_dump(mode="json")
    assert told["generation"] == {"template": "alpaca", "max_new_tokens": 64}
    assert make_spec(told).model_dump(mode="json") == told


def test_the_example_reads_its_rows(flan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLEASE_DATA", str(flan))
    monkeypatch.setattr("fedlease.experiments.places.resolve", lambda name, beside: name)
    path = Path(__file__).resolve().parents[2] / "examples" / "flan.toml"
    example = read_spec(path)
    rows = read_rows(example, settle(example, path.parent))
    assert [(len(held.train), len(held.test)) for held in rows.values()] == [(150, 50)] * 8


def test_mixed_tasks_and_numbers_of_rows(flan: Path) -> None:
    mixed = {"name": "both", "count": 2, "data": ["trec", "fix_punct"], "train_rows": 40, "test_rows": 10}
    apart = {"name": "apart", "count": 2, "data": "snli", "split": {"by": "quantity", "rows": [20, 90]}}
    spec = make_spec({"model": {"name": "x"}, "data": {"root": str(flan)}, "clients": [mixed, apart]})
    rows = read_rows(spec, settle(spec, flan))
    assert [len(held.train) for held in rows.values()] == [20, 90, 40, 40]
    for client in ("both-0", "both-1"):
        offered = [bool(options(row.texts[0])) for row in rows[client].train]
        assert (sum(offered), rows[client].labels) == (20, ())


def test_a_causal_model_classifies(spec_of: Make, tiny_llama: Path, tmp_path: Path) -> None:
    spec = spec_of(rounds=2, method=METHODS["ffa_lora"])
    spec["model"] = {**spec["model"], "name": str(tiny_llama), "max_length": 64}
    run = fedlease.run(spec, tmp_path / "run")
    assert run.record["metric"] == "accuracy"
    assert 0 <= run.accuracy <= 1
    assert (run.folder / "heads" / "2.safetensors").is_file()
