"""`fedlease.load`: the trained model as transformers and PEFT know it, and runs that are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from trained import deployed, logits_of
from transformers import AutoModelForSequenceClassification, pipeline

import fedlease
from fedlease.core.errors import FedLeaseError
from fedlease.experiments.results import Run


@pytest.mark.parametrize("kind", ["run", "plain"])
def test_logits_are_the_trained_models(kind: str, request: pytest.FixtureRequest) -> None:
    opened: Run = request.getfixturevalue(kind)
    batch, trained = logits_of(opened, "tone-1")
    model = fedlease.load(opened.folder, client="tone-1")
    assert isinstance(model, PeftModel)
    assert not model.training
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).logits, trained, rtol=0, atol=1e-5)
        with model.disable_adapter():
            assert not torch.allclose(model(**batch).logits, trained, atol=1e-3)


def test_it_works_in_a_pipeline(run: Run) -> None:
    model = fedlease.load(run.folder, client="answers-0")
    classify = pipeline("text-classification", model=model, tokenizer=model.name_or_path)
    site, network = deployed(run, "answers-0")
    names = run.record["clients"]["answers-0"]["labels"]
    inputs = {"text": "Who wrote the letter?", "text_pair": "Anna wrote the letter."}
    tokens = site.resident.base.tokenizer(inputs["text"], inputs["text_pair"], return_tensors="pt")
    shares = torch.softmax(network(**tokens).logits[0].detach().double(), -1)
    found = classify(inputs, top_k=None)
    assert {entry["label"]: pytest.approx(entry["score"], abs=1e-5) for entry in found} == {
        name: float(share) for name, share in zip(names, shares, strict=True)
    }


def test_a_language_model_writes_in_a_pipeline(writer: Run) -> None:
    model = fedlease.load(writer.folder, client="asked-0")
    write = pipeline("text-generation", model=model, tokenizer=model.name_or_path)
    found = write("Q: say 007\nA: ", max_new_tokens=5, do_sample=False, return_full_text=False)
    site, network = deployed(writer, "asked-0")
    tokenizer = site.resident.base.tokenizer
    tokens = tokenizer("Q: say 007\nA: ", return_tensors="pt")
    ids = tokens["input_ids"]
    for _ in range(5):  # greedy, token by token
        ids = torch.cat([ids, network(input_ids=ids).logits[:, -1:].argmax(-1)], 1)
        if int(ids[0, -1]) == tokenizer.eos_token_id:
            break
    wanted = tokenizer.decode(ids[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True)
    assert found[0]["generated_text"] == wanted


def test_what_it_saves_loads_on_the_bare_base(run: Run, tiny: Path, tmp_path: Path) -> None:
    batch, trained = logits_of(run, "tone-0")
    fedlease.load(run.folder, client="tone-0").save_pretrained(tmp_path / "saved")
    torch.manual_seed(99)
    bare = AutoModelForSequenceClassification.from_pretrained(tiny)
    torch.nn.init.normal_(bare.classifier.weight)  # the head comes with the adapter
    with torch.no_grad():
        found = PeftModel.from_pretrained(bare, tmp_path / "saved").eval()(**batch).logits
    torch.testing.assert_close(found, trained, rtol=0, atol=1e-5)


def _unfinished(folder: Path, _: Path) -> None:
    _record(folder, status="running", rounds=[{"round": 1, "metrics": {}}])


def _other_version(folder: Path, _: Path) -> None:
    _record(folder, format=7)


def _record(folder: Path, **changes: Any) -> None:
    path = folder / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _flipped(folder: Path, _: Path) -> None:
    path = folder / "adapters" / "tone-0" / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def _cut(folder: Path, _: Path) -> None:
    """As it would be found in a run that was written before records told hashes."""
    path = folder / "adapters" / "tone-0" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    _record(folder, files={})


def _nan(folder: Path, _: Path) -> None:
    path = folder / "adapters" / "tone-0" / "adapter_model.safetensors"
    tensors = load_file(path)
    first = sorted(tensors)[0]
    save_file({**tensors, first: tensors[first] * float("nan")}, path)
    _record(folder, files={})


def _no_head(folder: Path, _: Path) -> None:
    (folder / "heads" / "2.safetensors").unlink()


def _no_head_and_no_hash(folder: Path, _: Path) -> None:
    _no_head(folder, _)
    _record(folder, files={})


def _other_model(_: Path, base: Path) -> None:
    path = base / "model.safetensors"
    tensors = load_file(path)
    name = "bert.encoder.layer.0.output.dense.weight"
    save_file({**tensors, name: tensors[name] + 1e-3}, path, metadata={"format": "pt"})


def _no_model(_: Path, base: Path) -> None:
    shutil.rmtree(base)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (_unfinished, "is not finished, it has 1 of 3 rounds: 'fedlease resume"),
        (_other_version, r"record.json has format 7; fedlease .* reads 1"),
        (_flipped, r"tone-0/adapter_model.safetensors is not what the run wrote there: the run is damaged"),
        (_cut, "tone-0/adapter_model.safetensors: cannot be read as safetensors"),
        (_nan, r"tone-0: .* holds NaN or infinity"),
        (_no_head, r"heads/2.safetensors is missing: the run is damaged"),
        (_no_head_and_no_hash, r"heads/2.safetensors is missing or damaged"),
        (_other_model, "is not the one the run began with"),
        (_no_model, r"its base model .* is not at .*: name its folder with --model"),
    ],
)
def test_a_run_that_cannot_be_trusted_is_refused(
    harm: Callable[[Path, Path], None], says: str, classes: Any, run: Run, tiny: Path, tmp_path: Path
) -> None:
    folder, base = tmp_path / "run", tmp_path / "base"
    shutil.copytree(run.folder, folder)
    shutil.copytree(tiny, base)
    for name in ("spec.json", "record.json"):
        path = folder / name
        path.write_text(path.read_text().replace(str(tiny), str(base)))
    fedlease.load(folder, client="tone-0")  # a copy is as good
    harm(folder, base)
    with pytest.raises(FedLeaseError, match=says) as caught:
        fedlease.load(folder, client="tone-0")
    assert "\n" not in str(caught.value)


def test_a_model_that_moved_is_named(run: Run, tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "moved")
    batch, trained = logits_of(run, "tone-0")
    with torch.no_grad():
        found = fedlease.load(run.folder, client="tone-0", model=tmp_path / "moved")(**batch).logits
    torch.testing.assert_close(found, trained, rtol=0, atol=1e-5)


def test_clients_and_folders_that_are_not_there(run: Run, tmp_path: Path) -> None:
    with pytest.raises(
        FedLeaseError, match="there is no client bank; there are: answers-0, answers-1, tone-0"
    ):
        fedlease.load(run.folder, client="bank")
    with pytest.raises(FedLeaseError, match="is not the folder of a run"):
        fedlease.load(tmp_path, client="tone-0")
