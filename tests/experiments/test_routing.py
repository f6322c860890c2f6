"""What a record tells of the experts clients use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from runs import Killed, Make, federation_of

import fedlease
from fedlease.core.adapter import Model
from fedlease.training.site import TorchSite

MIXTURE = {"name": "fedlease", "rank": 2, "experts": 2, "warmup_rounds": 1}


def without_times(record: dict[str, Any]) -> dict[str, Any]:
    rounds = [{key: value for key, value in entry.items() if key != "seconds"} for entry in record["rounds"]]
    return {key: value for key, value in record.items() if key != "sessions"} | {"rounds": rounds}


def test_every_client_and_module_is_told(spec_of: Make, tmp_path: Path) -> None:
    spec = spec_of(method=MIXTURE, rounds=2)
    record = fedlease.run(spec, tmp_path / "run").record
    assert list(record["routing"]) == sorted(record["clients"])
    for modules in record["routing"].values():
        assert modules.keys() == federation_of(spec).base.modules.keys()
        for used in modules.values():
            assert 1 <= used["experts"] <= 2
            assert len(used["weights"]) == 2
            assert sum(used["weights"]) == pytest.approx(1, abs=1e-5)  # they are normalised
            assert 0 <= used["entropy"] <= 1  # bits, of two experts
    again = fedlease.run(spec, tmp_path / "again").record
    assert without_times(again) == without_times(record)


@pytest.mark.parametrize("method", [{"name": "fedit", "rank": 2}, {**MIXTURE, "experts": 1}])
def test_without_a_router_nothing_is_told(method: dict[str, Any], spec_of: Make, tmp_path: Path) -> None:
    assert "routing" not in fedlease.run(spec_of(method=method, rounds=2), tmp_path / "run").record


def test_a_run_resumed_after_its_last_round_tells_the_same(
    spec_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(method={**MIXTURE, "router": "local"}, rounds=2)
    whole = fedlease.run(spec, tmp_path / "whole").record

    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(TorchSite, "usage", killed)
        with pytest.raises(Killed):
            fedlease.run(spec, tmp_path / "cut")
    assert "routing" not in fedlease.Run(tmp_path / "cut").record
    again = fedlease.resume(tmp_path / "cut").record
    assert len(again["sessions"]) == 2
    assert without_times(again) == without_times(whole)


def test_the_time_counts_as_scoring(spec_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, real = [0.0], TorchSite.usage

    def slow(site: TorchSite, model: Model) -> Any:
        clock[0] += 1000
        return real(site, model)

    monkeypatch.setattr(TorchSite, "usage", slow)
    monkeypatch.setattr("fedlease.experiments.run.perf_counter", lambda: clock[0])
    seconds = fedlease.run(spec_of(method=MIXTURE, rounds=2), tmp_path / "run").record["rounds"][-1][
        "seconds"
    ]
    assert 4000 < seconds["score"] < 4100  # four clients
    assert seconds["total"] == pytest.approx(seconds["train"] + seconds["score"] + seconds["other"])
