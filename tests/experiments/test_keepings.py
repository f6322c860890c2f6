"""What clients keep, through a checkpoint and back: the same bits, one client at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from fedlease.core.codec import load_value, save_value
from fedlease.core.weights import Weights
from fedlease.experiments.checkpoint import Checkpoint, History, _Kept
from fedlease.experiments.keepings import Keepings
from fedlease.experiments.store import Store

NAMES = [f"layer.{number}.query.{kind}" for number in range(20) for kind in "BA"]
ODD = {
    "z.choice": torch.tensor(3),
    "b": torch.tensor([1.5, -0.0, float("nan")], dtype=torch.bfloat16),
    "c": torch.tensor([True]),
    "d": torch.empty((0, 4)),
    "a.B": torch.arange(6, dtype=torch.float64).reshape(2, 3).T,  # not contiguous
}


def drawn(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(3, 5, generator=generator) for name in NAMES}


def assert_same(found: Mapping[str, Weights], kept: Mapping[str, Weights]) -> None:
    assert list(found) == list(kept)
    for client, weights in kept.items():
        assert list(found[client]) == list(weights)
        for name, tensor in weights.items():
            other = found[client][name]
            assert (other.dtype, other.shape) == (tensor.dtype, tensor.shape)
            assert torch.equal(
                *(t.contiguous().flatten().view(torch.uint8) for t in (other, tensor))
            )  # NaN, too


def test_every_tensor_comes_back_and_names_are_written_once(tmp_path: Path) -> None:
    kept = {"b": drawn(0), "a": drawn(1), "odd": ODD, "nothing": {}}
    save_value(Keepings.of(7, kept), tmp_path, "keeps")
    back = load_value(Keepings, tmp_path, "keeps", mapped=True)
    assert back.round == 7
    assert_same(dict(back.apart()), kept)
    assert (tmp_path / "keeps.json").read_text().count("layer.0.query.A") == 1


def test_a_checkpoint_of_before_is_read(tmp_path: Path) -> None:
    kept = {"a": drawn(0), "odd": ODD, "nothing": {}}
    store = Store(tmp_path)
    store.save(Checkpoint(3, Keepings.of(0, {}), kept, History()))
    assert_same(store.load(Keepings).kept, kept)
    (folder,) = (tmp_path / "checkpoint").iterdir()
    for path in folder.glob("keeps.*"):
        path.unlink()
    save_value(_Kept(3, kept), folder, "kept")
    found = store.load(Keepings)
    assert found.round == 3
    assert_same(found.kept, kept)
