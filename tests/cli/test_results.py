"""What a run's folder answers: means of scores, and whether it is the run asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedlease.core.errors import FedLeaseError
from fedlease.core.files import write_json
from fedlease.experiments.results import Run, same_spec
from fedlease.experiments.spec import make_spec
from fedlease.experiments.store import FORMAT


@pytest.fixture
def run_of(tmp_path: Path) -> Callable[..., Run]:
    """Make the folder of a run from the metrics of its rounds."""

    def make(*metrics: dict[str, Any], **facts: Any) -> Run:
        rounds = [{"round": number, "metrics": scores} for number, scores in enumerate(metrics, start=1)]
        write_json(tmp_path / "spec.json", {"format": FORMAT})
        spec = {"method": {"name": "fedit"}, "rounds": 9, "clients": []}
        always = {"format": FORMAT, "spec": spec, "clients": {}, "status": "running", "versions": {}}
        write_json(tmp_path / "record.json", {**always, "rounds": rounds, **facts})
        return Run(tmp_path)

    return make


def test_accuracy_is_the_mean_over_those_scored_last(run_of: Any) -> None:
    run = run_of({"a": {"accuracy": 0.0}}, {"a": {"accuracy": 0.5}, "b": {"accuracy": 0.75}, "c": {}}, {})
    assert run.accuracy == run.score == 0.625
    assert run.metric == "accuracy"


def test_the_main_metric_may_be_another(run_of: Any) -> None:
    run = run_of(
        {"a": {"rouge1": 0.5, "rougeL": 0.25}, "b": {"rouge1": 0.5, "rougeL": 0.75}}, metric="rougeL"
    )
    assert run.score == 0.5
    with pytest.raises(FedLeaseError, match="no accuracy in its scores; there is: rouge1, rougeL"):
        _ = run.accuracy


def test_before_a_scored_round_there_is_no_accuracy(run_of: Any) -> None:
    for name in ("accuracy", "score"):
        with pytest.raises(FedLeaseError, match="no client is scored yet, after 2 rounds"):
            getattr(run_of({}, {}), name)


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"method": {"name": "fedit", "rank": 8}}, True),  # its settings are not compared
        ({"method": {"name": "local_only", "rank": 4}}, False),
        ({"seed": 1}, False),
        ({"rounds": 3}, False),
        ({"training": {"batch_size": 4}}, False),
        ({"model": {"name": "minilm", "max_length": 16}}, False),
        ({"data": {"root": "elsewhere"}}, False),
        ({"clients": [{"name": "a", "data": "tone"}, {"name": "b", "data": "answers"}]}, False),
    ],
)
def test_a_folder_holds_the_run_of_a_spec(tmp_path: Path, changes: dict[str, Any], same: bool) -> None:
    spec = {
        "name": "x",
        "rounds": 2,
        "method": {"name": "fedit", "rank": 4},
        "clients": [{"name": "a", "data": "tone"}, {"name": "b", "data": "tone"}],
    }
    resolved = {"spec": make_spec(spec).model_dump(mode="json"), "clients": {}}
    write_json(tmp_path / "spec.json", {"format": FORMAT, **resolved})
    assert same_spec(tmp_path, make_spec({**spec, **changes})) is same


def test_a_folder_without_a_run_is_said(tmp_path: Path, spec_of: Any) -> None:
    with pytest.raises(FedLeaseError, match="not the folder of a run"):
        same_spec(tmp_path, make_spec(spec_of()))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"spec": {}}, "it has no spec.method.name"),
        ({"spec": {"method": "fedit", "rounds": 3, "clients": []}}, "it has no spec.method.name"),
        ({"spec": {"method": {"name": "fedit"}, "clients": []}}, "it has no spec.rounds"),
        ({"rounds": 3}, "its rounds is not a list"),
        ({"clients": []}, "its clients is not a table"),
        ({"rounds": [{"round": 1, "metrics": {}}, 7]}, "of the rounds, number 2: it has no round"),
        ({"rounds": [{"round": 1, "metrics": []}]}, "of the rounds, number 1: its metrics is not a table"),
    ],
)
def test_a_damaged_record_is_said_in_one_line(
    command: Any, run_of: Any, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    run_of({}, **changes)
    for name in ("table", "show", "report"):
        code, shown, complaint = command(name, tmp_path)
        assert (code, shown) == (2, "")
        assert complaint == f"fedlease: {tmp_path / 'record.json'} is damaged: {says}; remove the run\n"


@pytest.mark.parametrize("part", ["plan", "model"])
def test_a_record_that_lacks_what_show_prints(command: Any, run_of: Any, tmp_path: Path, part: str) -> None:
    told = {"model": {"path": "m"}, "plan": dict.fromkeys(("precision", "attention", "threads", "device"), 1)}
    spec = {"name": "a", "method": {"name": "fedit"}, "rounds": 1, "clients": []}
    run_of(spec=spec, seed=0, **{key: value for key, value in told.items() if key != part})
    code, shown, complaint = command("show", tmp_path)
    assert (code, shown, complaint.count("\n")) == (2, "", 1)
    assert f"{tmp_path}: the record is damaged, or of another version: KeyError '{part}'" in complaint


@pytest.mark.parametrize("words", [["table"], ["figure", "8"]], ids=" ".join)
def test_a_score_that_is_none_is_said_in_a_line(
    command: Any, run_of: Any, tmp_path: Path, words: list[str]
) -> None:
    run_of({"a": 3}, clients={"a": {"group": "a"}}, seed=0, status="complete")
    code, shown, complaint = command(*words, tmp_path)
    assert (code, shown, complaint.count("\n")) == (2, "", 1)
    assert "record" in complaint
