"""What clients hold, through a checkpoint and back."""

from __future__ import annotations

from pathlib import Path

import torch

from fedlease.core.codec import load_value, save_value
from fedlease.core.held import digests
from fedlease.experiments.holdings import Holdings


def test_every_digest_comes_back_and_names_are_written_once(tmp_path: Path) -> None:
    drawn = torch.Generator().manual_seed(0)
    names = [f"layer.{number}.query.{kind}" for number in range(20) for kind in "BA"]

    def held(experts: int) -> dict[str, torch.Tensor]:
        return digests({name: torch.randn(experts, 4, 8, generator=drawn) for name in names})

    holds = {f"client-{number}": held(3) for number in range(6)} | {"late": held(2), "never": {}}
    save_value(Holdings.of(holds), tmp_path, "holds")
    back = load_value(Holdings, tmp_path, "holds").apart()
    assert back.keys() == holds.keys() - {"never"}
    for client, found in back.items():
        assert list(found) == [f"held/{name}" for name in names]
        for name, digest in found.items():
            assert digest.shape == (2 if client == "late" else 3, 16)
            assert torch.equal(digest, holds[client][name])
    assert (tmp_path / "holds.json").read_text().count("layer.0.query.A") == 2  # once for each layout
