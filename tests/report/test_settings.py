"""What can set apart two runs: rows named by it, and seeds of one row that are no mean."""

from __future__ import annotations

import io
from typing import Any

import pytest
from cells import said
from rich.console import Console

from fedlease.core.errors import FedLeaseError
from fedlease.experiments.spec import make_spec
from fedlease.report.records import Entry
from fedlease.report.series import series
from fedlease.report.settings import USUAL, settings_of
from fedlease.report.summary import run_report
from fedlease.report.table import make_table

DIRICHLET = {"by": "dirichlet", "alpha": 0.5, "min_rows": 10, "beta": None}
OTHERWISE: list[tuple[dict[str, Any], str, str]] = [
    ({"model": {"quantization": "bnb-4bit"}}, "model.quantization", "none and bnb-4bit"),
    ({"exchange": {"wire": "int8"}}, "exchange.wire", "float32 and int8"),
    ({"exchange": {"norm_factor": None}}, "exchange.norm_factor", "100.0 and none"),
    ({"data": {"root": "elsewhere", "held_out": True}}, "data.held_out", "false and true"),
    (
        {"clients": [{"name": "red", "train_rows": 25}, {"name": "blue", "train_rows": 25}]},
        "clients.train_rows",
        "none and 25",
    ),
    (
        {"clients": [{"name": "red", "test_rows": 25}, {"name": "blue"}]},
        "clients.test_rows",
        "none and blue:none red:25",
    ),
    (
        {"clients": [{"name": name, "split": DIRICHLET} for name in ("red", "blue")]},
        "clients.split",
        "none and dirichlet(alpha=0.5 min_rows=10)",
    ),
]


def changed(run: Entry, spec: dict[str, Any]) -> Entry:
    """The run with some tables of its specification replaced."""
    return run._replace(record={**run.record, "spec": {**run.record["spec"], **spec}})


@pytest.mark.parametrize(("spec", "key", "values"), OTHERWISE)
def test_seeds_with_other_settings_are_no_mean(
    entry: Any, spec: dict[str, Any], key: str, values: str
) -> None:
    runs = [entry("fedit", 0, [0.5] * 4), changed(entry("fedit", 1, [0.7] * 4), spec)]
    one, other = values.split(" and ")
    rows = (f"fedit ({key}={one})", f"fedit ({key}={other})")
    assert make_table(runs).rows == rows
    assert tuple(found.row for found in series(runs)) == rows
    named = [run._replace(row="FedIT") for run in runs]  # as a sweep does
    with pytest.raises(FedLeaseError) as caught:
        make_table(named)
    assert str(caught.value) == (
        "runs/fedit-0 and runs/fedit-1 are two seeds of FedIT with different settings "
        f"({key} is {values}): leave one of them out"
    )


def test_generation_is_a_setting_and_where_data_lies_is_none(entry: Any) -> None:
    texts = [{"generation": {"template": "chat", "max_new_tokens": most}} for most in (8, 64)]
    runs = [changed(entry("fedit", seed, [0.5] * 4), spec) for seed, spec in enumerate(texts)]
    assert make_table(runs).rows == tuple(f"fedit (generation.max_new_tokens={most})" for most in (8, 64))
    roots = [{"data": {"root": root, "held_out": False}} for root in ("here", "there")]
    runs = [changed(entry("fedit", seed, [0.5] * 4), spec) for seed, spec in enumerate(roots)]
    assert make_table(runs).rows == ("fedit",)


def test_a_setting_that_an_older_version_did_not_tell_refuses_nothing(entry: Any) -> None:
    runs = [entry("FedIT", seed, [0.5] * 4) for seed in (0, 1)]
    runs[1] = changed(runs[1], {"method": {"name": "fedit", "news": 3}})
    assert make_table(runs).rows == ("FedIT",)


def test_what_is_left_out_of_records_is_what_is_usual() -> None:
    clients = [{"name": "c", "count": 2, "data": "sst2"}]
    usual = make_spec({"clients": clients})
    assert {f"exchange.{key}": value for key, value in usual.exchange.model_dump().items()} == {
        key: value for key, value in USUAL.items() if key.startswith("exchange.")
    }
    told = settings_of({"spec": usual.model_dump(mode="json")})
    assert {key: told[key] for key in USUAL} == dict(USUAL)
    assert usual.model.quantization == USUAL["model.quantization"]
    assert usual.data.held_out == USUAL["data.held_out"]


def test_rows_that_differ_in_wire_or_quantisation_are_noted(entry: Any) -> None:
    spec = {"exchange": {"wire": "int8"}, "model": {"quantization": "bnb-4bit"}}
    runs = [entry("FedIT", 0, [0.5] * 4), changed(entry("FFA", 0, [0.6] * 4), spec)]
    table = make_table(runs)
    assert said(table, "messages") == "Note: messages cross in different forms: FedIT float32, FFA int8."
    assert said(table, "quantised") == (
        "Note: base models are quantised differently: FedIT not at all, FFA bnb-4bit."
    )
    assert not [note for note in make_table(runs[:1]).notes if "Note" in note]


def held_out(run: Entry) -> Entry:
    """The run scored on rows put aside from its training rows."""
    return changed(run, {"data": {"root": None, "held_out": True}})


def test_held_out_training_rows_are_not_called_test_rows(entry: Any) -> None:
    runs = [entry("FedIT", 0, [0.5] * 4), entry("FFA", 0, [0.6] * 4)]
    assert make_table(runs).title == "Test accuracy (%)"
    apart = [held_out(run) for run in runs]
    table = make_table(apart)
    assert table.title == "Accuracy on held-out training rows (%)"
    assert table.notes[0].startswith("Accuracy on held-out training rows in percent after the last")
    assert not [note for note in table.notes if "test rows" in note]
    mixed = make_table([runs[0], apart[1]])
    assert mixed.title == "Accuracy (%)"
    assert said(mixed, "test rows") == (
        "Note: scored on held-out training rows, and the others on test rows: FFA seed 0."
    )


def test_a_run_on_held_out_rows_says_so_on_the_screen(entry: Any) -> None:
    run = held_out(entry("FedIT", 0, [0.5] * 4))
    run.record["clients"]["red-0"]["shared_test_rows"] = True
    screen = Console(file=io.StringIO(), width=200)
    screen.print(run_report(run.record))
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "held-out training rows" in shown
    assert "test rows" not in shown
