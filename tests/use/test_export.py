"""Exported folders: stock PEFT loads them, they compute what was trained, and the card tells the rest."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch import nn
from trained import batch_of, deployed, logits_of
from transformers import AutoModelForSequenceClassification

from fedlease.experiments.results import Run
from fedlease.use.export import export
from fedlease.use.finished import open_run

STOCK = """
import json, sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

torch.manual_seed(5)
for name, (base, folder, batch) in json.load(sys.stdin).items():
    kind = AutoModelForCausalLM if name == "words" else AutoModelForSequenceClassification
    model = PeftModel.from_pretrained(kind.from_pretrained(base), folder).eval()
    with torch.no_grad():
        logits = model(**{key: torch.tensor(rows) for key, rows in batch.items()}).logits
    print(json.dumps({"name": name, "logits": logits.tolist()}))
assert not [name for name in sys.modules if name.partition(".")[0] == "fedlease"]
"""

Batch = dict[str, torch.Tensor]


@dataclass
class Loras:
    """Folders exported as ``lora``, and the logits that stock PEFT computes with them."""

    shown: dict[str, str]
    folders: dict[str, Path]
    batches: dict[str, Batch]
    logits: dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def loras(
    run: Run, plain: Run, writer: Run, tiny: Path, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory
) -> Loras:
    """One LoRA of each kind, loaded in a process that knows nothing of fedlease."""
    place = tmp_path_factory.mktemp("loras")
    asked = {
        "one": (plain, "answers-0", None, tiny),
        "folded": (run, "tone-0", 3, tiny),
        "words": (writer, "chats-1", 4, tiny_llama),
    }
    found = Loras({}, {}, {}, {})
    for name, (of, client, rank, _) in asked.items():
        done = export(open_run(of.folder), client, "lora", place / name, rank=rank)
        found.shown[name], found.folders[name] = done.sentence, done.folder
        found.batches[name] = batch_of(deployed(of, client)[0]) if name != "words" else {}
    found.batches["words"] = {"input_ids": torch.tensor([[5, 6, 7, 8]])}
    jobs = {
        name: (
            str(base),
            str(found.folders[name]),
            {key: rows.tolist() for key, rows in found.batches[name].items()},
        )
        for name, (_, _, _, base) in asked.items()
    }
    ended = subprocess.run(
        [sys.executable, "-c", STOCK], input=json.dumps(jobs), capture_output=True, text=True, check=True
    )
    for line in ended.stdout.splitlines():
        if line.startswith('{"name"'):
            told = json.loads(line)
            found.logits[told["name"]] = torch.tensor(told["logits"])
    return found


@torch.no_grad()
def test_the_mixture_is_the_trained_model(command: Any, run: Run, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "mixture"
    code, shown, _ = command("export", run.folder, "--client", "tone-1", "--as", "fedlease", "--out", out)
    assert (code, f"wrote {out}" in shown) == (0, True)
    batch, trained = logits_of(run, "tone-1")
    bare = AutoModelForSequenceClassification.from_pretrained(tiny)
    nn.init.normal_(bare.classifier.weight)
    found = PeftModel.from_pretrained(bare, out).eval()(**batch).logits
    torch.testing.assert_close(found, trained, rtol=0, atol=1e-5)
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


@torch.no_grad()
def test_stock_experts_and_the_router_are_the_trained_model(
    command: Any, run: Run, tiny: Path, tmp_path: Path
) -> None:
    """The mixture put together again by hand: stock PEFT's updates, the router in numpy, token by token."""
    out = tmp_path / "experts"
    assert command("export", run.folder, "--client", "tone-1", "--as", "experts", "--out", out)[0] == 0
    batch, trained = logits_of(run, "tone-1")
    rule = json.loads((out / "router.json").read_text())
    assert rule == {"experts": 2, "assigned": 1 if rule["assigned"] else 0, "top_k": None, "normalize": True}
    routers = load_file(out / "router.safetensors")
    updates: list[dict[str, np.ndarray]] = []
    for index in range(2):
        bare = AutoModelForSequenceClassification.from_pretrained(tiny)
        stock = PeftModel.from_pretrained(bare, out / f"expert-{index}").eval()
        found = stock.base_model.model.named_modules()
        layers = {path: layer for path, layer in found if isinstance(layer, LoraLayer)}
        updates.append({path: layer.get_delta_weight("default").numpy() for path, layer in layers.items()})
    base = stock.unload().eval()  # with the head that came with the experts
    assigned = rule["assigned"]

    def add(path: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            x = inputs[0].double().numpy()
            scores = x @ routers[f"{path}.router"].double().numpy().T
            shares = np.exp(scores - scores.max(-1, keepdims=True))
            shares /= shares.sum(-1, keepdims=True)
            kept = shares * (shares >= np.sort(shares, -1)[..., -2:-1])
            kept /= kept.sum(-1, keepdims=True)
            weights = {assigned: kept[..., 0] + kept[..., 1], 1 - assigned: kept[..., 2]}
            added = sum(weights[m][..., None] * (x @ updates[m][path].T) for m in range(2))
            return output + torch.from_numpy(added).float()

        return hook

    for path in updates[0]:
        base.get_submodule(path).register_forward_hook(add(path))
    torch.testing.assert_close(base(**batch).logits, trained, rtol=0, atol=1e-5)


def test_a_single_adapter_is_stock_lora_without_loss(loras: Loras, plain: Run) -> None:
    assert "Nothing is lost" in loras.shown["one"]
    before = load_file(plain.adapter("answers-0") / "adapter_model.safetensors")
    after = load_file(loras.folders["one"] / "adapter_model.safetensors")
    assert json.loads((loras.folders["one"] / "adapter_config.json").read_text())["r"] == 3
    for name, tensor in before.items():  # alpha is the rank, so that B has the scale of 16 / 3
        scaled = tensor * (16 / 3) if "lora_B" in name else tensor
        torch.testing.assert_close(after[name], scaled, rtol=1e-6, atol=0)
    _, trained = logits_of(plain, "answers-0")
    torch.testing.assert_close(loras.logits["one"], trained, rtol=0, atol=1e-5)


def test_one_lora_for_a_mixture_and_what_it_keeps(loras: Loras, run: Run) -> None:
    site, network = deployed(run, "tone-0")
    labels = torch.tensor(site.test_rows.labels)
    with torch.no_grad():
        trained = network(**batch_of(site)).logits
    scores = (float((each.argmax(-1) == labels).float().mean()) for each in (trained, loras.logits["folded"]))
    before, after = scores
    said = loras.shown["folded"]
    assert f"accuracy on the client's test rows: {100 * before:.1f} % with the model as trained" in said
    assert f"{100 * after:.1f} % with this one LoRA of rank 3, {100 * after / before:.1f} % of it" in said
    tensors = load_file(loras.folders["folded"] / "adapter_model.safetensors")
    assert {len(tensor) for name, tensor in tensors.items() if "lora_A" in name} == {3}
    assert said in (loras.folders["folded"] / "README.md").read_text()


def test_a_language_model_as_stock_lora(loras: Loras) -> None:
    config = json.loads((loras.folders["words"] / "adapter_config.json").read_text())
    assert (config["task_type"], config["modules_to_save"], config["r"]) == ("CAUSAL_LM", None, 4)
    assert all("lora_" in name for name in load_file(loras.folders["words"] / "adapter_model.safetensors"))
    assert loras.logits["words"].shape == (1, 4, 257)
    assert "rouge1 on the client's test rows" in loras.shown["words"]


def test_the_card_tells_where_it_comes_from(command: Any, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "lora"
    arguments = ("export", run.folder, "--client", "tone-0", "--as", "fedlease", "--out", out)
    assert command(*arguments, "--base", "bank/base-model")[0] == 0
    card = (out / "README.md").read_text()
    front = card.split("---")[1]
    assert "base_model: bank/base-model\n" in front
    assert "library_name: peft\n" in front
    assert run.record["model"]["fingerprint"] in card
    assert "method fedlease (rank 2, alpha 16.0" in card
    assert "3 rounds of 2 epochs, AdamW at 0.03" in card
    for client, scores in run.metrics.items():
        assert f"| {client} | 24 | 20 | " in card
        assert f"| {100 * scores['accuracy']:.1f} % |" in card
    assert str(tmp_path) not in card
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "bank/base-model"


def test_upload(command: Any, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is a fake that takes note of what it is asked, then one that refuses."""
    asked: list[Any] = []

    class Hub:
        def create_repo(self, repo: str, *, private: bool, exist_ok: bool) -> str:
            asked.append((repo, private, exist_ok))
            return f"https://hub/{repo}"

        def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
            if repo_id == "bank/closed":
                raise OSError("403\nno right to write")
            asked.append((repo_id, sorted(path.name for path in Path(folder_path).iterdir())))

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    start = ("export", run.folder, "--client", "tone-0", "--as", "fedlease")
    code, _, complaint = command(*start, "--out", tmp_path / "a", "--push-to-hub", "bank/model")
    assert (code, complaint.count("\n"), asked, list(tmp_path.iterdir())) == (2, 1, [], [])
    assert "say with --base what the base model is called" in complaint
    named = ("--base", "bank/base", "--push-to-hub")
    code, shown, _ = command(*start, "--out", tmp_path / "a", *named, "bank/model")
    assert code == 0
    assert "uploaded to https://hub/bank/model" in shown
    files = ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    assert asked == [("bank/model", True, True), ("bank/model", files)]
    code, _, complaint = command(*start, "--out", tmp_path / "b", *named, "bank/closed")
    assert (code, complaint.count("\n")) == (2, 1)
    assert "is written, but the hub does not take it (403 no right to write)" in complaint
    assert (tmp_path / "b" / "README.md").is_file()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--as", "merged"), "there is no form 'merged'; there are: fedlease, experts, lora"),
        (("--as", "experts", "--rank", 4), "rank is 4: it is of the form lora"),
        (("--as", "lora", "--rank", 0), "rank is 0"),
        (("--as", "lora", "--fit", "best"), "there is no fit 'best'; there are: tokens, mean"),
        (("--as", "lora", "--client", "bank"), "there is no client bank"),
        (("--as", "lora", "--out", "taken"), "taken is there already"),
    ],
)
def test_what_cannot_be_exported(
    command: Any, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Any, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    code, _, complaint = command("export", run.folder, "--client", "tone-0", *options)
    assert (code, complaint.count("\n")) == (2, 1)
    assert says in complaint
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_rows_that_are_no_longer_the_same(
    command: Any, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedlease.use.finished.rows_hash", lambda _: "0")
    arguments = ("--client", "tone-0", "--as", "lora", "--out", tmp_path / "lora")
    code, _, complaint = command("export", run.folder, *arguments)
    assert (code, complaint.count("\n")) == (2, 1)
    assert "the rows of client tone-0 are not those the run began with" in complaint
    assert not list(tmp_path.iterdir())


def test_licences_are_those_of_the_base(run: Run, tmp_path: Path) -> None:
    from fedlease.use.card import licence_of

    def licence(name: str, folder: Path = tmp_path) -> str | None:
        model, places = SimpleNamespace(name=name), SimpleNamespace(model=str(folder))
        return licence_of(SimpleNamespace(spec=SimpleNamespace(model=model), places=places))  # type: ignore[arg-type]

    assert (licence("minilm"), licence("roberta-large"), licence("bank/base")) == ("apache-2.0", "mit", None)
    (tmp_path / "README.md").write_text("---\nlanguage: en\nlicense: cc-by-4.0\n---\nlicense: no\n")
    assert licence("minilm") == "cc-by-4.0"
