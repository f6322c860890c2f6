"""A stock server that knows nothing of fedlease serves an exported LoRA: ``transformers serve``."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from fedlease.experiments.results import Run
from fedlease.use.export import export
from fedlease.use.finished import open_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("fastapi", "uvicorn", "openai")),
        reason="no server is installed: pip install 'transformers[serving]'",
    ),
]

PROMPTS = ("Q: say 003\nA: ", "Q: say 041\nA: ", "is 7 even?", "hello", "x")
WORDS = 12


@pytest.fixture(scope="module")
def lora(writer: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client's mixture as one LoRA."""
    out = tmp_path_factory.mktemp("served") / "lora"
    export(open_run(writer.folder), "asked-0", "lora", out)
    return out


@pytest.fixture(scope="module")
def address(lora: Path, tiny_llama: Path) -> Iterator[str]:
    """A server on the base's files beside the LoRA's, as docs/using.md says."""
    served = lora.parent / "served"
    shutil.copytree(tiny_llama, served)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(lora / name, served)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [str(Path(sys.executable).parent / "transformers"), "serve", str(served)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    log = lora.parent / "log"
    with log.open("wb") as into:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        server = subprocess.Popen(command, env=environment, stdout=into, stderr=into)
    try:
        _until_up(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}/v1/completions"
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _until_up(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.3)
    pytest.fail(f"the server did not come up:\n{log.read_text()}")


def asked(address: str, model: Path, prompt: str) -> str:
    body = {"model": str(model), "prompt": prompt, "temperature": 0, "max_tokens": WORDS}
    head = {"content-type": "application/json"}
    question = urllib.request.Request(address, json.dumps(body).encode(), head)
    with urllib.request.urlopen(question, timeout=60) as answer:
        return str(json.load(answer)["choices"][0]["text"])


@torch.no_grad()
def written(model: Any, tokenizer: Any, prompt: str) -> str:
    given = tokenizer(prompt, return_tensors="pt")
    out = model.generate(
        input_ids=given["input_ids"],
        attention_mask=given["attention_mask"],
        do_sample=False,
        max_new_tokens=WORDS,
        pad_token_id=0,
    )
    return str(tokenizer.decode(out[0, given["input_ids"].shape[1] :], skip_special_tokens=True))


def test_a_stock_server_writes_what_stock_peft_writes(lora: Path, tiny_llama: Path, address: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    base = AutoModelForCausalLM.from_pretrained(tiny_llama).eval()
    bare = [written(base, tokenizer, prompt) for prompt in PROMPTS]
    tuned = PeftModel.from_pretrained(base, lora).eval()
    expected = [written(tuned, tokenizer, prompt) for prompt in PROMPTS]
    served = [asked(address, lora.parent / "served", prompt) for prompt in PROMPTS]
    assert served == expected
    assert served != bare
