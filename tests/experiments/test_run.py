"""Whole runs: every method, the record, what is saved, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from rich.console import Console
from runs import Make, core_model, federation_of
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

import fedlease
from fedlease.algorithms.registry import methods
from fedlease.cli.live import Live
from fedlease.core.errors import FedLeaseError
from fedlease.experiments.params import parameters
from fedlease.experiments.spec import make_spec
from fedlease.experiments.work import work


@pytest.mark.parametrize("name", list(methods()))
def test_every_method_runs_and_tells(name: str, spec_of: Make, tmp_path: Path, tiny: Path) -> None:
    spec = spec_of(method={"name": name, "rank": 2}, rounds=4)
    run = fedlease.run(spec, tmp_path / "run")
    record = run.record
    assert record["status"] == "complete"
    assert [entry["round"] for entry in record["rounds"]] == [1, 2, 3, 4]
    clients = ["answers-0", "answers-1", "tone-0", "tone-1"]
    assert sorted(record["clients"]) == clients
    for entry in record["rounds"]:
        assert sorted(entry["metrics"]) == sorted(entry["loss"]) == clients
        assert all(0 <= scores["accuracy"] <= 1 for scores in entry["metrics"].values())
        parts = entry["seconds"]
        assert parts["total"] == pytest.approx(parts["train"] + parts["score"] + parts["other"])
    counted = work(make_spec(spec))  # without data or model
    for kind, rows in (("train", counted.trained), ("score", counted.scored)):
        assert sum(entry["rows"][kind] for entry in record["rounds"]) == rows
    if name not in ("feddpa", "ifca_lora"):  # one trains twice a round, the other scores to choose
        assert (counted.trained, counted.scored) == (4 * 4 * 24, 4 * 4 * 10)
    assert record["versions"]["fedlease"] == fedlease.__version__
    assert {"torch", "transformers", "peft"} <= set(record["versions"])
    assert record["seed"] == 0
    assert (run.allocation is not None) == name.startswith(("fedlease", "hydralora"))
    network = AutoModelForSequenceClassification.from_pretrained(tiny)
    assert record["parameters"]["base"] == sum(p.numel() for p in network.parameters())
    experts = 1 if run.allocation is None else run.allocation.num_experts
    assert record["parameters"]["trained"] == parameters(str(tiny), name, 2, experts).by_part
    assert 0 <= run.accuracy <= 1


def test_saved_adapters_load_with_peft_and_score_the_same(spec_of: Make, tmp_path: Path, tiny: Path) -> None:
    spec = spec_of(method={"name": "fedlease", "rank": 2, "experts": 2, "warmup_rounds": 1})
    run = fedlease.run(spec, tmp_path / "run")
    base = AutoModelForSequenceClassification.from_pretrained(tiny)
    model = PeftModel.from_pretrained(base, run.adapter("tone-0")).eval()
    head = load_file(run.folder / "heads" / "2.safetensors")
    base.classifier.load_state_dict(head)
    site = federation_of(spec).sites["tone-0"]
    batch = site.task.collate(site.test_rows, range(len(site.test_rows)), 0)
    labels = batch.pop("labels")
    logits = model(**batch).logits
    accuracy = float((logits.argmax(-1) == labels).double().mean())
    assert accuracy == pytest.approx(run.metrics["tone-0"]["accuracy"])
    used = core_model(run.adapter("tone-0"), model)
    network = site.resident.put(used, 2).eval()
    torch.testing.assert_close(network(**batch).logits, logits, rtol=0, atol=1e-5)


def test_nan_names_the_client_and_the_round(spec_of: Make, tmp_path: Path) -> None:
    spec = spec_of(training={"learning_rate": 1e30, "batch_size": 4, "max_grad_norm": 0.0})
    with pytest.raises(FedLeaseError, match=r"client answers-0, round 1: .*learning_rate"):
        fedlease.run(spec, tmp_path / "run")


def test_an_occupied_folder_is_left_alone(spec_of: Make, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(FedLeaseError, match="choose another --out"):
            fedlease.run(spec_of(), place)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_run_that_broke_off_in_its_first_round_gives_way(spec_of: Make, tmp_path: Path) -> None:
    with pytest.raises(FedLeaseError, match="learning_rate"):
        fedlease.run(spec_of(training={"learning_rate": 1e30, "batch_size": 4}), tmp_path / "run")
    run = fedlease.run(spec_of(rounds=2), tmp_path / "run")
    assert run.record["spec"]["training"]["learning_rate"] == 0.01
    with pytest.raises(FedLeaseError, match="already holds a run: go on with 'fedlease resume"):
        fedlease.run(spec_of(rounds=2), tmp_path / "run")


def test_the_record_tells_every_setting(spec_of: Make, tmp_path: Path) -> None:
    record = fedlease.run(
        spec_of(method={"name": "fedlease_paper", "rank": 2}, rounds=4), tmp_path / "run"
    ).record
    told = record["spec"]["method"]
    assert (told["name"], told["rank"], told["distance"], told["min_experts"]) == (
        "fedlease_paper",
        2,
        "b",
        2,
    )
    assert told["alpha"] == 16.0
    assert record["metric"] == "accuracy"


@pytest.mark.parametrize("name", ["local_only", "fedit"])
def test_weights_that_break_in_the_last_step_are_noticed(
    name: str, spec_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of the last step is finite, and what it does to the weights is not."""
    from fedlease.training import site

    def fit(network: Any, parameters: list[torch.nn.Parameter], *_: Any, **__: Any) -> None:
        parameters[3].data[0, 0] = float("nan")

    monkeypatch.setattr(site, "fit", fit)
    with pytest.raises(FedLeaseError, match=r"client answers-0, round 1: .* became NaN or infinite"):
        fedlease.run(spec_of(method={"name": name, "rank": 2}, rounds=1), tmp_path / "run")


def test_a_folder_of_another_format_is_refused(spec_of: Make, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text('{"format": 99}')
    with pytest.raises(FedLeaseError, match="has format 99"):
        fedlease.resume(tmp_path)
    with pytest.raises(FedLeaseError, match="not the folder of a run"):
        fedlease.resume(tmp_path / "nowhere")


@pytest.mark.slow
def test_real_clients_of_one_task_share_one_expert(glue: Path, minilm: str, tmp_path: Path) -> None:
    spec = {
        "rounds": 4,
        "score_every": 4,
        "model": {"name": minilm, "max_length": 64},
        "method": {"name": "fedlease", "rank": 4},
        "data": {"root": str(glue)},
        "clients": [{"name": "sst2", "data": "sst2", "count": 4, "train_rows": 96, "test_rows": 10}],
    }
    allocation = fedlease.run(spec, tmp_path / "run").allocation
    assert allocation is not None
    assert allocation.num_experts == 1, allocation.scores


@pytest.mark.slow
def test_real_model_on_real_text(glue: Path, minilm: str, tmp_path: Path) -> None:
    """MiniLM on GLUE: the two tasks share no expert, and the one that is learnt fast is learnt."""
    clients = [
        {"name": task, "data": task, "count": 2, "train_rows": 96, "test_rows": 60}
        for task in ("sst2", "mrpc")
    ]
    spec = {
        "rounds": 4,
        "score_every": 4,
        "model": {"name": minilm, "max_length": 64},
        "method": {"name": "fedlease", "rank": 4},
        "training": {"learning_rate": 4e-3, "batch_size": 16, "epochs": 2},
        "data": {"root": str(glue)},
        "clients": clients,
    }
    run = fedlease.run(spec, tmp_path / "run")
    assert run.allocation is not None
    mrpc, sst2 = set(run.allocation.labels[:2]), set(run.allocation.labels[2:])
    assert len(sst2) == 1
    assert not mrpc & sst2
    scores = [run.metrics[f"sst2-{i}"]["accuracy"] for i in range(2)]
    assert sum(scores) / 2 > 0.6
    first, last = (run.record["rounds"][i]["loss"] for i in (0, -1))
    assert sum(last.values()) < sum(first.values())
    seconds = run.record["rounds"][1]["seconds"]  # nothing scored, nothing allocated: training alone
    assert seconds["other"] < 0.05 * seconds["total"]


def test_a_refused_upload_is_named_in_the_record(spec_of: Any, tmp_path: Path) -> None:
    """With a limit of just above the median some client is always above it."""
    spec = spec_of(rounds=2, method={"name": "fedit", "rank": 2}, exchange={"norm_factor": 1.0001})
    screen = io.StringIO()
    record = fedlease.run(spec, tmp_path / "run", observer=Live(Console(file=screen, width=160))).record
    left_out = [one for entry in record["rounds"] for one in entry.get("left_out", [])]
    assert left_out
    for one in left_out:
        assert one["task"] == "train"
        assert "more than 1.0001 times the median" in one["reason"]
        assert f"{one['client']} is left out of train: it sent weights of norm" in screen.getvalue()
    assert record["spec"]["exchange"]["norm_factor"] == 1.0001
    plain = fedlease.run(spec_of(rounds=1, method={"name": "fedit", "rank": 2}), tmp_path / "plain").record
    assert "exchange" not in plain["spec"]
    assert "left_out" not in plain["rounds"][0]
