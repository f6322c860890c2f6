"""A job of a sweep: what its result depends on, and which records stand for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_sweep import tiny_preset

import fedlease
from fedlease.core.errors import FedLeaseError
from fedlease.experiments.jobs import identity, job
from fedlease.experiments.presets.glue import SMALL
from fedlease.experiments.spec import make_spec
from fedlease.experiments.store import Store


@pytest.mark.parametrize("name", ["record.json", "spec.json"])
def test_a_damaged_record_is_one_line(name: str, tmp_path: Path) -> None:
    for file in ("spec.json", "record.json"):
        (tmp_path / file).write_text('{"format": 1}')
    with pytest.raises(FedLeaseError, match=rf"{name} is damaged: it has no spec; remove the run"):
        getattr(Store(tmp_path), name.removesuffix(".json").replace("spec", "resolved"))()


def test_a_spec_is_known_by_what_its_result_depends_on(tiny: Path) -> None:
    cell = tiny_preset(str(tiny)).cells(SMALL)[0]
    spec = job(cell.spec, 1e-3, 0).spec
    content = spec.model_dump(mode="json")
    elsewhere = make_spec({**content, "name": "other", "data": {**content["data"], "root": "x"}})
    assert identity(elsewhere) == identity(spec)
    explicit = make_spec({**content, "method": spec.settings()})
    assert identity(explicit) == identity(spec)
    plain = make_spec({**content, "rounds": 4, "method": {"name": "fedlease_paper"}})
    assert identity(plain) != identity(make_spec({**content, "rounds": 4, "method": {"name": "fedlease"}}))
    longer = make_spec({**content, "training": {**content["training"], "pool": 9}})
    assert identity(longer) != identity(spec)
    assert identity(job(cell.spec, 2e-3, 0).spec) != identity(spec)
    assert identity(job(cell.spec, 1e-3, 1).spec) != identity(spec)


def test_a_record_of_another_version_is_refused_by_name(tiny: Path, tmp_path: Path) -> None:
    one = job(tiny_preset(str(tiny)).cells(SMALL)[0].spec, 1e-3, 0)
    run = fedlease.run(one.spec, one.folder(tmp_path))
    record = run.record
    record["versions"]["fedlease"] = "0.0.1"
    (run.folder / "record.json").write_text(json.dumps(record))
    with pytest.raises(FedLeaseError, match=r"record\.json is from fedlease 0\.0\.1"):
        one.done(tmp_path)
    record["versions"]["fedlease"] = fedlease.__version__
    record["spec"]["training"]["pool"] = 9  # as if the default had been another one then
    (run.folder / "record.json").write_text(json.dumps(record))
    with pytest.raises(FedLeaseError, match=r"was made with another training\.pool"):
        one.done(tmp_path)
    record["spec"]["training"].pop("pool")  # as if there had been no such setting then
    (run.folder / "record.json").write_text(json.dumps(record))
    assert one.done(tmp_path)
