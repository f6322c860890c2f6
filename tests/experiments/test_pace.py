"""How long rows take: what is measured, and that a run takes as long as was foreseen, on a made-up clock."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from runs import Make

import fedlease
from fedlease.core.errors import FedLeaseError
from fedlease.experiments import pace as module
from fedlease.experiments.jobs import Job, job, left
from fedlease.experiments.pace import Pace, like, measure, measured_here, specimens
from fedlease.experiments.presets import find
from fedlease.experiments.spec import Spec, make_spec
from fedlease.experiments.work import KINDS, Costs, kind_of
from fedlease.training.site import TorchSite

COSTS: Costs = dict(
    zip(product(("tone", "answers"), KINDS), (1.0, 0.5, 3.0, 0.25, 8.0, 4.0, 32.0, 2.0), strict=True)
)


class Clock:
    """Goes on by what a batch costs, whenever a site tells of one."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def tell(self, site: TorchSite, step: Any, purpose: str, round: int) -> None:
        self.seconds += step.rows * COSTS[site.client.rpartition("-")[0] or site.client, kind_of(purpose)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    monkeypatch.setattr(TorchSite, "_tell", lambda *told: made.tell(*told))
    monkeypatch.setattr(module, "perf_counter", lambda: made.seconds)
    return made


def paced(spec: Spec) -> Pace:
    """What measuring gives on the clock."""
    return Pace({(like(spec, e), kind): COSTS[e.name, kind] for e in spec.clients for kind in KINDS})


def test_each_kind_of_work_is_measured_for_each_group(spec_of: Make, clock: Clock) -> None:
    found = measured_here(make_spec(spec_of()))
    usual = {key: cost for key, cost in COSTS.items() if key[1] != "usage"}
    assert {(g, kind): found[g][kind] for g, kind in usual} == pytest.approx(usual)
    assert all(found[group]["usage"] == found[group]["loss"] for group in found)  # the same pass


@pytest.mark.parametrize(
    "method",
    [
        {"name": "fedit", "rank": 2},
        {"name": "feddpa", "rank": 2},
        {"name": "ifca_lora", "rank": 2, "clusters": 2},
        {"name": "fedlease", "rank": 2, "warmup_rounds": 1, "experts": 2},
    ],
    ids=lambda method: method["name"],
)
def test_a_run_takes_what_was_foreseen(
    method: dict[str, Any], spec_of: Make, clock: Clock, tmp_path: Path
) -> None:
    one = job(spec_of(method=method, score_every=2), 0.01)
    fedlease.run(one.spec, tmp_path / "run")
    assert one.work.seconds(paced(one.spec).costs(one.spec)) == pytest.approx(clock.seconds)


def test_what_runs_share_counts_once_and_what_is_done_not_at_all(
    spec_of: Make, clock: Clock, tmp_path: Path
) -> None:
    own = {"name": "fedlease", "rank": 2, "warmup_rounds": 1}
    jobs = [job(spec_of(method={**own, "top_k": k}), 0.01) for k in (1, 2)]
    pace = paced(jobs[0].spec)
    alone = left(jobs[:1], tmp_path, {}, pace)
    warm_up = 2 * 24 * (COSTS["tone", "train"] + COSTS["answers", "train"])
    assert left(jobs, tmp_path, {}, pace) == pytest.approx(2 * alone - warm_up)
    assert left([jobs[1], jobs[0]], tmp_path, {}, pace) == pytest.approx(2 * alone - warm_up)
    fedlease.run(jobs[0].spec, jobs[0].folder(tmp_path))
    assert left(jobs, tmp_path, {}, pace) == pytest.approx(alone - warm_up)


def test_rows_are_alike_where_they_take_the_same_time() -> None:
    def first(**changes: Any) -> Any:
        groups = [{"name": "a", "data": "trec", "count": 2, **changes.pop("client", {})}]
        spec = make_spec({"clients": groups, **changes})
        return like(spec, spec.clients[0])

    usual = first()
    assert usual[0] == "minilm"
    for same in (
        {"seed": 5, "rounds": 3, "method": {"name": "fedit"}, "data": {"held_out": True}},
        {"training": {"learning_rate": 0.5, "epochs": 7, "weight_decay": 0.1}},
        {"client": {"name": "b", "count": 9, "train_rows": 7, "test_rows": 3}},
        {"client": {"split": {"by": "quantity", "alpha": 1.0}}},
    ):
        assert first(**same) == usual
    for other in (
        {"model": {"name": "smollm2"}},
        {"model": {"max_length": 64}},
        {"training": {"batch_size": 4}},
        {"training": {"score_batch_size": 4}},
        {"generation": {"max_new_tokens": 4}},
        {"client": {"data": "snli"}},
        {"client": {"data": ["trec", "snli"]}},
    ):
        assert first(**other) != usual


def test_a_spec_is_measured_for_every_kind_of_rows() -> None:
    def of(*names: str) -> list[Job]:
        presets = [find(name) for name in names]
        return [job(cell.spec, 1e-3, 0) for preset in presets for cell in preset.cells(preset.size("small"))]

    assert len(specimens(one.spec for one in of("table1", "table2", "table5", "table8"))) == 1
    fewer_first = specimens(one.spec for one in of("fig3", "table1", "fig2"))
    assert [len(spec.clients) for spec in fewer_first] == [2, 4]  # two tasks, then all four
    both = specimens(one.spec for one in of("table1", "table3"))
    assert [spec.model.name for spec in both] == ["minilm", "smollm2"]


def test_the_pace_is_told_by_model() -> None:
    seconds = {
        (("a", "x"), "train"): 0.01,
        (("a", "y"), "train"): 0.03,
        **{(("a", rows), kind): 0.1 for rows in "xy" for kind in ("score", "loss", "usage")},
        **{(("b", "x"), kind): 4.0 for kind in KINDS},
    }
    assert Pace(seconds).told() == (
        "a 50 rows/s in training, 10 in scoring, 10 in computing losses; "
        "b 0.25 rows/s in training, 0.25 in scoring, 0.25 in computing losses"
    )


def test_every_process_measures_and_the_mean_counts(spec_of: Make, tmp_path: Path) -> None:
    spec = make_spec(spec_of())
    told: list[tuple[int, int]] = []
    found = measure([spec], 2, tmp_path / "logs", lambda *far: told.append(far))
    assert told == [(done, 4) for done in range(5)]  # two groups in two processes
    assert found.costs(spec).keys() == set(product(("tone", "answers"), KINDS))
    assert all(0 < seconds < 10 for seconds in found.seconds.values())
    broken = make_spec(spec_of(model={"name": str(tmp_path), "threads": 1}))
    with pytest.raises(FedLeaseError, match=str(tmp_path)):
        measure([broken], 1, tmp_path / "logs")
