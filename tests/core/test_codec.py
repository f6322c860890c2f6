"""States and checkpoints: bit-equal there and back, damage is noticed, writes are whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from fedlease.core.codec import check, load_value, pack, save_value, unpack
from fedlease.core.errors import FedLeaseError
from fedlease.core.files import read_json, write_bytes, write_json


@dataclass(frozen=True)
class Inner:
    scores: dict[int, float]
    labels: tuple[int, ...]
    matrix: np.ndarray


@dataclass(frozen=True)
class Outer:
    round: int
    name: str
    weights: Mapping[str, Tensor]
    inner: Inner | None
    history: tuple[Inner, ...]
    kept: dict[str, dict[str, Tensor]]


def make(inner: bool) -> Outer:
    weights = {"a.b/c.A": torch.randn(3, 2), "x.B": torch.arange(4, dtype=torch.bfloat16)}
    leaf = Inner({2: 0.1, 10: float(np.pi)}, (0, 1, 1), np.random.default_rng(0).normal(size=(3, 3)))
    return Outer(
        3, "größe", weights, leaf if inner else None, (leaf,), {"client": {}, "other": dict(weights)}
    )


@pytest.mark.parametrize("inner", [True, False])
def test_there_and_back_is_bit_equal(inner: bool, tmp_path: Path) -> None:
    first = make(inner)
    save_value(first, tmp_path, "state")
    again = load_value(Outer, tmp_path, "state")
    assert (again.round, again.name, again.inner is None) == (3, "größe", not inner)
    assert all(torch.equal(again.weights[name], first.weights[name]) for name in first.weights)
    assert again.weights["x.B"].dtype == torch.bfloat16
    assert again.history[0].scores == first.history[0].scores
    assert again.history[0].labels == (0, 1, 1)
    assert np.array_equal(again.history[0].matrix, first.history[0].matrix)
    assert set(again.kept) == {"client", "other"}
    assert again.kept["client"] == {}


def test_what_cannot_be_stored_is_refused() -> None:
    with pytest.raises(TypeError, match="set at /weights"):
        pack({"weights": {1, 2}}, {})


@dataclass(frozen=True)
class Shapes:
    rows: list[Tensor]
    pair: tuple[int, Tensor]
    nested: list[tuple[str, dict[str, Inner]]]
    empty: tuple[()]
    fact: int | str | None
    kind: Literal["b", "product"]


def test_lists_fixed_tuples_and_plain_unions(tmp_path: Path) -> None:
    leaf = make(True).inner
    assert leaf is not None
    first = Shapes([torch.randn(2), torch.ones(1)], (3, torch.eye(2)), [("x", {"a": leaf})], (), "5", "b")
    save_value(first, tmp_path, "state")
    again = load_value(Shapes, tmp_path, "state")
    assert [type(again.rows), type(again.pair), type(again.nested)] == [list, tuple, list]
    assert all(torch.equal(one, other) for one, other in zip(again.rows, first.rows, strict=True))
    assert again.pair[0] == 3
    assert torch.equal(again.pair[1], torch.eye(2))
    assert np.array_equal(again.nested[0][1]["a"].matrix, leaf.matrix)
    assert (again.nested[0][0], again.empty, again.fact, again.kind) == ("x", (), "5", "b")


@dataclass(frozen=True)
class Deep:
    inner: dict[str, tuple[set[int], ...]]


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (int | Tensor, "int | "),
        (Inner | Outer | None, "Outer"),
        (set[int], r"set\[int\]"),
        (Deep, r"set\[int\]"),
        (Any, "Any"),
        (tuple, "tuple"),
        (dict[tuple[int, ...], int], "dict"),
        (Path, "Path"),
    ],
)
def test_types_that_cannot_be_loaded_are_named(kind: Any, named: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=f"cannot load a .*{named}"):
        check(kind)
    with pytest.raises(TypeError, match="cannot load a"):
        load_value(kind, tmp_path, "nothing there")


@pytest.mark.parametrize("kind", [int | Tensor, set[int], Any, Path])
def test_types_that_are_not_known_are_not_guessed(kind: Any) -> None:
    with pytest.raises(TypeError, match="cannot load a"):
        unpack([], {}, kind)


def test_a_state_that_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"set\[int\]"):
        save_value(Deep({}), tmp_path, "state")
    assert not list(tmp_path.iterdir())


def test_a_tree_of_another_kind_is_damage(tmp_path: Path) -> None:
    save_value(make(True), tmp_path, "state")
    (tmp_path / "state.json").write_text("[]")
    with pytest.raises(FedLeaseError, match="damaged"):
        load_value(Outer, tmp_path, "state")


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_damage_is_named(tmp_path: Path, suffix: str, damage: str) -> None:
    save_value(make(True), tmp_path, "state")
    path = tmp_path / f"state.{suffix}"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.unlink()
    with pytest.raises(FedLeaseError, match="state"):
        load_value(Outer, tmp_path, "state")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"round": 1})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fedlease.core.files.os.fsync", full)
    with pytest.raises(FedLeaseError, match=r"cannot write .*record\.json: No space"):
        write_bytes(path, b"half")
    assert read_json(path) == {"round": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "no" / "a.json", tmp_path / "file" / "a.json"):
        with pytest.raises(FedLeaseError, match=rf"^cannot write {place}: "):
            write_json(place, 1)
    (tmp_path / "folder").mkdir()
    with pytest.raises(FedLeaseError, match="folder"):
        write_bytes(tmp_path / "folder", b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_json_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(FedLeaseError, match=r"cannot read .*missing\.json"):
        read_json(tmp_path / "missing.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(FedLeaseError, match=r"bad\.json is not valid JSON"):
        read_json(tmp_path / "bad.json")
