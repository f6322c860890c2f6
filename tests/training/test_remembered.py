"""A training that was done before is read, when everything that goes into it is the same, and only then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import federation_of

from fedlease.core.adapter import Adapter, Learn, Model, lora_init
from fedlease.core.progress import Progress
from fedlease.training.remembered import RememberingSite
from fedlease.training.site import TorchSite

WARM_UP = Learn(("A", "B"), round=1, epochs=1, purpose="warm-up")


@pytest.fixture
def site(spec_of: Callable[..., Any], tmp_path: Path) -> RememberingSite:
    plain = federation_of(spec_of()).sites["tone-0"]
    fields = {name: getattr(plain, name) for name in TorchSite.__dataclass_fields__}
    return RememberingSite(**fields, memory=tmp_path / "shared", context={"base": "x"})


def start(site: TorchSite, seed: int = 0) -> Model:
    return Model(Adapter(2), lora_init(site.resident.base.modules, 2, seed))


def test_the_second_time_nothing_is_trained_and_the_result_is_the_same(
    site: RememberingSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Progress] = []
    site.watch = told.append
    first = site.train(start(site), WARM_UP)
    trained, rows = told[-1], sum(step.rows for step in told)
    told.clear()
    monkeypatch.setattr(TorchSite, "train", None)
    second = site.train(start(site), WARM_UP)
    assert all(torch.equal(first[name], second[name]) for name in first)
    (again,) = told
    assert again.rows == again.done == rows
    assert again.loss == trained.loss
    assert again.seconds == 0
    assert again.reused > 0


@pytest.mark.parametrize(
    "change",
    [
        lambda site: (replace(site, seed=1), start(site), WARM_UP),
        lambda site: (replace(site, client="other"), start(site), WARM_UP),
        lambda site: (
            replace(site, settings=replace(site.settings, learning_rate=0.1)),
            start(site),
            WARM_UP,
        ),
        lambda site: (replace(site, context={"base": "y"}), start(site), WARM_UP),
        lambda site: (replace(site, train_rows=site.test_rows), start(site), WARM_UP),
        lambda site: (site, start(site, 1), WARM_UP),
        lambda site: (site, Model(Adapter(2, alpha=8.0), start(site).weights), WARM_UP),
        lambda site: (site, start(site), replace(WARM_UP, round=2)),
        lambda site: (site, start(site), replace(WARM_UP, parts=("B",))),
        lambda site: (site, start(site), replace(WARM_UP, epochs=2)),
    ],
)
def test_another_input_is_another_training(site: RememberingSite, change: Callable[..., Any]) -> None:
    site.train(start(site), WARM_UP)
    other, model, learn = change(site)
    other.train(model, learn)
    assert len(list(site.memory.iterdir())) == 2


def test_what_methods_do_differently_is_not_remembered(site: RememberingSite) -> None:
    site.train(start(site), replace(WARM_UP, purpose="train"))
    assert not site.memory.exists()


def test_a_damaged_file_is_trained_again(site: RememberingSite) -> None:
    first = site.train(start(site), WARM_UP)
    (path,) = site.memory.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    again = site.train(start(site), WARM_UP)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert len(path.read_bytes()) == len(whole)
