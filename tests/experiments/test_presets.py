"""The presets of the paper's tables and figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_sweep import Silent

from fedlease.core.errors import FedLeaseError
from fedlease.experiments.jobs import job
from fedlease.experiments.places import settle
from fedlease.experiments.prepare import read_rows
from fedlease.experiments.presets import find, presets
from fedlease.experiments.presets.glue import SMALL
from fedlease.experiments.sweep import Sweep
from fedlease.experiments.work import work


def test_there_are_rows_enough_for_every_preset(glue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLEASE_DATA", str(glue))
    dealt = set()
    for preset in presets().values():
        for name in ("small", "paper") if preset.name != "table3" else ():  # it is not of GLUE
            size = preset.size(name)
            specs = [job(cell.spec, 1e-3, 0).spec for cell in preset.cells(size)]
            specs += [job(tried, 1e-3).spec for tried in preset.trials(size).values()]
            for spec in specs:
                key = spec.model_dump_json(include={"clients", "data"})
                if key not in dealt:
                    dealt.add(key)
                    assert len(read_rows(spec, settle(spec, Path.cwd()))) == len(spec.ids)
    assert len(dealt) > 10


def test_every_preset_can_be_built_in_both_sizes() -> None:
    assert list(presets())[:2] == ["table1", "table2"]
    for preset in presets().values():
        for name in ("small", "paper"):
            size = preset.size(name)
            cells, tried = preset.cells(size), preset.trials(size)
            assert len({(cell.row, cell.section) for cell in cells}) == len(cells)
            for cell in cells:
                assert work(job(cell.spec, 1e-3, 0).spec).trained > 0
            for rate in {cell.rate for cell in cells}:
                assert job(tried[rate], 1e-3).spec.data.held_out


def test_comparable_workload() -> None:
    for cell in find("table1").cells(SMALL):
        method = cell.spec["method"]
        assert method["rank"] == (4 if method["name"] in ("feddpa", "fedlease", "fedlease_paper") else 8)


def test_unknown_presets_and_sizes_list_what_there_is() -> None:
    with pytest.raises(FedLeaseError, match="no preset 'table0'; there are: table1, table2"):
        find("table0")
    with pytest.raises(FedLeaseError, match="Figure 5 of the paper is a drawing"):
        find("fig5")
    with pytest.raises(FedLeaseError, match="table1 has no size 'huge'; it has: small, paper"):
        Sweep([find("table1")], "huge", Path("x"))


def test_missing_data_says_where_to_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDLEASE_DATA", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        FedLeaseError, match=r"name a folder in FEDLEASE_DATA that holds glue/TASK/train\.jsonl"
    ):
        Sweep([find("table1")], "small", tmp_path).run(Silent())
    assert not list(tmp_path.iterdir())
