"""Whole runs on quantised and checkpointed bases: every method, resumed ones, adapters in use, records."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from rich.console import Console
from runs import Make, federation_of, files, scores
from safetensors.torch import load_file

import fedlease
from fedlease.algorithms import registry
from fedlease.core.errors import FedLeaseError
from fedlease.experiments.jobs import identity
from fedlease.experiments.results import same_spec
from fedlease.experiments.spec import make_spec
from fedlease.report.summary import run_report
from fedlease.tasks.inference import Inference
from fedlease.use.finished import open_run

KINDS = ("bnb-8bit", "bnb-4bit", "torchao-int8")
CLIENTS = [{"name": "a", "data": "tone"}, {"name": "b", "data": "tone"}]


@pytest.fixture
def quantising() -> None:
    for name in ("bitsandbytes", "torchao", "accelerate"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'fedlease[quantization]'")


@pytest.fixture
def spec(tiny_llama: Path, tmp_path: Path) -> dict[str, Any]:
    """Two kinds of clients that write short answers, on the tiny Llama."""
    groups = {"same": lambda n: f"{n:02d}", "twice": lambda n: f"{n % 10}{n % 10}"}
    for name, answer in groups.items():
        rows = [{"ask": f"{name} {n:02d}", "say": answer(n)} for n in range(40)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "name": "small",
        "rounds": 3,
        "model": {"name": str(tiny_llama), "threads": 1, "precision": "float32", "max_length": 32},
        "method": {"name": "fedlease", "rank": 2, "warmup_rounds": 1},
        "training": {"batch_size": 8, "epochs": 3, "learning_rate": 0.02},
        "generation": {"template": "{prompt}: ", "max_new_tokens": 3},
        "clients": [
            {
                "name": name,
                "train": str(tmp_path / f"{name}.jsonl"),
                "prompt": ["ask"],
                "answer": "say",
                "count": 2,
                "train_rows": 8,
                "test_rows": 3,
            }
            for name in groups
        ],
    }


@pytest.mark.usefixtures("quantising")
@pytest.mark.parametrize("method", sorted(registry.methods()))
def test_every_method_learns_on_four_bits(method: str, spec: dict[str, Any], tmp_path: Path) -> None:
    spec["model"]["quantization"] = "bnb-4bit"
    early = {"warmup_rounds": 1} if method.startswith(("fedlease", "hydra")) else {}
    spec["method"] = {"name": method, "rank": 2, **early}
    run = fedlease.run(spec, tmp_path / "run")
    losses = [entry["loss"] for entry in run.record["rounds"]]
    assert all(losses[-1][client] < 0.9 * losses[0][client] for client in losses[0])
    assert run.record["status"] == "complete"
    for client in losses[0]:
        held = load_file(run.adapter(client) / "adapter_model.safetensors")
        assert all(tensor.any() for name, tensor in held.items() if "_B" in name)


@pytest.mark.usefixtures("quantising")
@pytest.mark.parametrize("kind", KINDS)
def test_resumed_runs_and_saved_adapters(
    kind: str, spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec["model"] |= {"quantization": kind, "gradient_checkpointing": True}
    whole = fedlease.run(spec, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("fedlease.experiments.run._write_adapters", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fedlease.run(spec, tmp_path / "cut")
    again = fedlease.resume(tmp_path / "cut")
    assert files(again.folder) == files(whole.folder)
    assert scores(again.folder) == scores(whole.folder)

    screen = Console(width=200, record=True, file=io.StringIO())
    screen.print(run_report(whole.record))
    assert f" in {kind} in float32, sdpa attention, 1 threads" in screen.export_text()
    told = whole.record["spec"]["model"]
    assert (told["quantization"], told["gradient_checkpointing"]) == (kind, True)
    assert {"accelerate", kind.partition("-")[0].replace("bnb", "bitsandbytes")} <= whole.record[
        "versions"
    ].keys()
    assert whole.record["parameters"]["base"] == federation_of(spec).base.model.num_parameters()

    federation = federation_of(spec)
    site, base = federation.sites["twice-0"], federation.base
    adapter = whole.adapter("twice-0")
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == base.path
    model = PeftModel.from_pretrained(base.model, adapter).eval()
    how = Inference(base.tokenizer, base.pad_id, 4, torch.device("cpu"), lambda step: None)
    with torch.inference_mode():
        assert site.task.score(model.base_model.model, site.test_rows, how) == whole.metrics["twice-0"]
    finished = open_run(whole.folder)
    assert finished.site("twice-0").score(finished.model("twice-0")) == whole.metrics["twice-0"]


@pytest.mark.usefixtures("quantising")
def test_another_quantisation_is_another_model(spec_of: Make, tmp_path: Path) -> None:
    spec = spec_of(rounds=2)
    fedlease.run(spec, tmp_path / "run")
    path = tmp_path / "run" / "spec.json"
    resolved = json.loads(path.read_text())
    assert "quantization" not in resolved["spec"]["model"]
    resolved["spec"]["model"]["quantization"] = "bnb-8bit"
    path.write_text(json.dumps(resolved))
    (tmp_path / "run" / "record.json").unlink()
    with pytest.raises(FedLeaseError, match="is not the one the run began with"):
        fedlease.resume(tmp_path / "run")
    spec["model"]["quantization"] = "torchao-int8"
    run = fedlease.run(spec, tmp_path / "other")
    assert 0 <= run.accuracy <= 1
    heads = [load_file(tmp_path / name / "heads" / "2.safetensors") for name in ("run", "other")]
    assert all(torch.equal(tensor, heads[1][name]) for name, tensor in heads[0].items())


def test_runs_are_told_apart_by_it(tmp_path: Path) -> None:
    plain = make_spec({"clients": CLIENTS})
    said = make_spec({"clients": CLIENTS, "model": {"quantization": "none", "gradient_checkpointing": False}})
    assert identity(said) == identity(plain)
    assert said.model_dump(mode="json")["model"] == plain.model_dump(mode="json")["model"]
    found = {identity(plain)}
    for model in (*({"quantization": kind} for kind in KINDS), {"gradient_checkpointing": True}):
        spec = make_spec({"clients": CLIENTS, "model": model})
        assert make_spec(spec.model_dump(mode="json")) == spec
        assert spec.model_dump(mode="json")["model"].items() >= model.items()
        found.add(identity(spec))
    assert len(found) == 5
    resolved = {"format": 1, "spec": plain.model_dump(mode="json"), "clients": {}}
    (tmp_path / "spec.json").write_text(json.dumps(resolved))
    assert same_spec(tmp_path, said)
    assert not same_spec(tmp_path, make_spec({"clients": CLIENTS, "model": {"quantization": "bnb-4bit"}}))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (
            {"quantization": "4bit"},
            "spec: model.quantization: Input should be 'none', 'bnb-8bit', 'bnb-4bit' or 'torchao-int8' "
            "('4bit' given)",
        ),
        ({"quantisation": "bnb-4bit"}, "spec: model.quantisation: there is no such key; known here: name, "),
    ],
)
def test_what_cannot_be(model: dict[str, str], says: str) -> None:
    with pytest.raises(FedLeaseError) as caught:
        make_spec({"clients": CLIENTS, "model": model})
    assert str(caught.value).startswith(says)
