"""A complete run goes on for more rounds as if it had been asked for them from the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from runs import Make, files, scores

import fedlease

METHODS = {
    "fedlease": {"name": "fedlease", "rank": 2, "warmup_rounds": 1, "experts": 2},
    "local only": {"name": "local_only", "rank": 2},
}


@pytest.mark.parametrize("method", METHODS)
def test_more_rounds_equal_a_run_of_so_many(method: str, spec_of: Make, tmp_path: Path) -> None:
    spec = spec_of(rounds=4, method=METHODS[method])
    spec["score_every"] = 2
    at_once = fedlease.run(spec, tmp_path / "once")
    run = fedlease.run({**spec, "rounds": 2}, tmp_path / "longer")
    assert files(run.folder) != files(at_once.folder)
    longer = fedlease.resume(run.folder, rounds=4)
    assert longer.record["status"] == "complete"
    assert longer.record["spec"] == at_once.record["spec"]
    assert [entry["round"] for entry in longer.record["rounds"]] == [1, 2, 3, 4]
    assert scores(longer.folder) == scores(at_once.folder)
    assert files(longer.folder) == files(at_once.folder)


def test_stopped_before_the_first_of_them_it_still_goes_on(
    spec_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fedlease.run(spec_of(rounds=2), tmp_path / "run")

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fedlease.experiments.run.prepare", stopped)
        with pytest.raises(KeyboardInterrupt):
            fedlease.resume(run.folder, rounds=3)
    assert len(fedlease.resume(run.folder).record["rounds"]) == 3


def test_fewer_rounds_are_refused(command: Any, spec_of: Make, tmp_path: Path) -> None:
    run = fedlease.run(spec_of(rounds=2), tmp_path / "run")
    before = files(run.folder)
    code, _, complaint = command("resume", run.folder, "--rounds", "1")
    assert code == 2
    assert "has 2 rounds: --rounds says how many it is to have in all, and 1 are fewer" in complaint
    assert command("resume", run.folder, "--rounds", "2")[0] == 0
    assert files(run.folder) == before
