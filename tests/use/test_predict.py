"""`fedlease predict`: what it says of rows, in which order, in how much memory, and rows it refuses."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from trained import deployed, examples_of

from fedlease.experiments.results import Run
from fedlease.tuner import FedLeaseLayer


def rows_to(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def texts(count: int) -> list[str]:
    return [" ".join(["the reply was late"] * (1 + 7 * row % 5)) + f" {row}" for row in range(count)]


@torch.no_grad()
def test_labels_and_probabilities_in_the_order_of_the_rows(command: Any, run: Run, tmp_path: Path) -> None:
    path = rows_to(tmp_path / "rows.jsonl", [{"id": n, "text": text} for n, text in enumerate(texts(70))])
    code, shown, told = command("predict", run.folder, "--client", "tone-1", "--input", path)
    assert (code, told) == (0, "70 rows\n")
    found = [json.loads(line) for line in shown.splitlines()]
    site, network = deployed(run, "tone-1")
    names = run.record["clients"]["tone-1"]["labels"]
    assert len(found) == 70
    for text, one in zip(texts(70), found, strict=True):  # row by row, unpadded
        tokens = site.resident.base.tokenizer(text, return_tensors="pt")
        shares = torch.softmax(network(**tokens).logits[0].double(), -1).tolist()
        assert one["probabilities"] == pytest.approx(dict(zip(names, shares, strict=True)), abs=1e-5)
        assert one["label"] == names[shares.index(max(shares))]
    assert len({json.dumps(one) for one in found}) > 1


@torch.no_grad()
def test_explain_tells_the_experts_of_each_row(command: Any, run: Run, tmp_path: Path) -> None:
    path = rows_to(tmp_path / "rows.jsonl", [{"text": text} for text in texts(5)])
    out = tmp_path / "found.jsonl"
    arguments = ("predict", run.folder, "--client", "tone-1", "--input", path, "--out", out, "--explain")
    code, shown, _ = command(*arguments)
    assert (code, shown) == (0, "")
    found = [json.loads(line)["experts"] for line in out.read_text().splitlines()]
    site, network = deployed(run, "tone-1")
    layers = {path: layer for path, layer in network.named_modules() if isinstance(layer, FedLeaseLayer)}
    seen: dict[str, torch.Tensor] = {}
    for name, layer in layers.items():
        layer.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
    for text, one in zip(texts(5), found, strict=True):
        network(**site.resident.base.tokenizer(text, return_tensors="pt"))
        assert set(one) == set(layers)
        for name, layer in layers.items():
            weights = layer.weights_of(seen[name], layer.active_adapters[0])[0]
            assert one[name]["weights"] == pytest.approx(weights.mean(0).tolist(), abs=1e-4)
            assert one[name]["used"] == pytest.approx(float((weights > 0).sum(1).float().mean()), abs=1e-4)
    code, _, complaint = command(*arguments)
    assert (code, complaint.count("\n")) == (2, 1)
    assert "found.jsonl is there already" in complaint


def test_explain_without_a_router(command: Any, plain: Run) -> None:
    code, _, complaint = command("predict", plain.folder, "--client", "tone-0", "--explain")
    assert (code, complaint.count("\n")) == (2, 1)
    assert "has one adapter and no router" in complaint


def test_texts_are_written_to_prompts_and_chats(
    command: Any, writer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The texts of the client's own test rows are those that the run scored."""
    for client, row in (
        ("asked-0", lambda e: {"ask": e.texts[0]}),
        ("chats-0", lambda e: {"talk": [{"role": "user", "content": e.texts[0]}]}),
        ("chats-0", lambda e: {"talk": [_user(e), {"role": "assistant", "content": "old"}]}),
    ):
        site, network = deployed(writer, client)
        examples = examples_of(writer, client)
        tokenizer = site.resident.base.tokenizer
        wanted = []
        for example in examples:
            tokens = tokenizer(f"Q: {example.texts[0]}\nA: ", return_tensors="pt")
            made = network.generate(
                **tokens, max_new_tokens=6, do_sample=False, eos_token_id=0, pad_token_id=0
            )
            text = tokenizer.decode(made[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True)
            wanted.append(text.strip())
        content = "".join(json.dumps(row(example)) + "\n\n" for example in examples)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
        code, shown, _ = command("predict", writer.folder, "--client", client, "--explain")
        assert code == 0
        found = [json.loads(line) for line in shown.splitlines()]
        assert [one["text"] for one in found] == wanted
        assert all(len(used["weights"]) == 2 for one in found for used in one["experts"].values())


def _user(example: Any) -> dict[str, str]:
    return {"role": "user", "content": example.texts[0]}


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ('{"text": "no end', "rows.jsonl:41: is not valid JSON"),
        ('["text"]', "rows.jsonl:41: is not a JSON object"),
        ('{"txt": "a"}', "rows.jsonl:41: no column 'text'; there are: txt"),
        ('{"text": "  "}', "rows.jsonl:41: the text in column 'text' is empty"),
        ('{"text": 3}', "rows.jsonl:41: column 'text' holds int 3"),
        (b'{"text": "\xff"}', "rows.jsonl:41: is not UTF-8 text"),
    ],
)
def test_a_bad_row_is_named_by_its_line(
    command: Any, run: Run, tmp_path: Path, bad: str | bytes, says: str
) -> None:
    path, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    good = b'{"text": "fine"}\n' * 40
    path.write_bytes(good + (bad if isinstance(bad, bytes) else bad.encode()) + b"\n" + good)
    code, _, complaint = command("predict", run.folder, "--client", "tone-0", "--input", path, "--out", out)
    assert (code, complaint.count("\n")) == (2, 1)
    assert says in complaint
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_prompt_that_cannot_be_put_into_the_template(command: Any, writer: Run, tmp_path: Path) -> None:
    talk = [{"role": role, "content": "a"} for role in ("user", "assistant", "user")]
    path = rows_to(tmp_path / "rows.jsonl", [{"talk": talk[:1]}, {"talk": talk}])
    code, _, complaint = command("predict", writer.folder, "--client", "chats-0", "--input", path)
    assert (code, complaint.count("\n")) == (2, 1)
    assert "rows.jsonl:2: a prompt that is a chat with earlier answers" in complaint


MEASURE = """
import json, resource, sys
from fedlease.use.finished import open_run
from fedlease.use.predict import Predictor
from fedlease.use.rows import read, sources

def lines():
    for n in range(10_000):
        text = f"row {n} " + "a b c " * (n % 4) + "padding " * 100
        yield json.dumps({"text": text, "note": "x" * 4000}).encode()

finished = open_run(sys.argv[1])
predictor = Predictor(finished, "tone-0")
peaks, last = [], None
for n, last in enumerate(predictor.over(read(lines(), "rows", sources(finished, "tone-0")))):
    if n in (2_000, 9_999):
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(json.dumps({"rows": predictor.rows, "peaks": peaks, "cut": predictor.cut}))
"""


@pytest.mark.slow
def test_memory_stays_flat_over_ten_thousand_rows(run: Run) -> None:
    """48 MB of lines with 8 MB of texts go through; the most the process holds grows by less than 4 MB."""
    shown = subprocess.run(
        [sys.executable, "-c", MEASURE, str(run.folder)], capture_output=True, text=True, check=True
    ).stdout
    found = json.loads(shown.splitlines()[-1])
    assert (found["rows"], found["cut"]) == (10_000, 10_000)
    first, last = found["peaks"]
    assert last - first < 4_096, found  # kilobytes
