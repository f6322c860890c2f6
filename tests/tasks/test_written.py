"""Scores of texts against numbers worked out by hand."""

from __future__ import annotations

import sys

import pytest

from fedlease.core.errors import FedLeaseError
from fedlease.tasks.written import options, scores


def test_scores_by_hand() -> None:
    found = scores(["the cat sat", "Yes ", "dog"], ["the cat ran off", "yes", "dog"], [(), ("yes", "no"), ()])
    of_first = 2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4)  # two of three words written, of four wanted
    assert found["rouge1"] == pytest.approx((of_first + 1 + 1) / 3)
    assert found["exact_match"] == pytest.approx(1 / 3)
    assert found["accuracy"] == 1.0
    swapped = scores(["sat cat the"], ["the cat sat"], [()])
    assert swapped == {"rouge1": 1.0, "rougeL": pytest.approx(1 / 3), "exact_match": 0.0}


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("How?\nOPTIONS:\n- good\n- bad - or so", ("good", "bad - or so")),
        ("OPTIONS:\n- a\n- b\n\nWhich?", ("a", "b")),
        ("OPTIONS: none", ()),
        ("- a\n- b", ()),
    ],
)
def test_options_of_a_prompt(prompt: str, expected: tuple[str, ...]) -> None:
    assert options(prompt) == expected


def test_what_cannot_be_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FedLeaseError, match="cannot score 0 rows"):
        scores([], [], [])
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    with pytest.raises(FedLeaseError, match=r"pip install 'fedlease\[generation\]'"):
        scores(["a"], ["a"], [()])
