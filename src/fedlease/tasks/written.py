"""Scores of texts that a model has written, against the answers wanted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from fedlease.core.errors import FedLeaseError

_OPTIONS = re.compile(r"^OPTIONS:[ \t]*\n((?:- .*(?:\n|\Z))+)", re.MULTILINE)


def options(prompt: str) -> tuple[str, ...]:
    """Return what a prompt offers to choose from, as FLAN's do: the lines ``- ...`` under ``OPTIONS:``."""
    blocks = _OPTIONS.findall(prompt)
    return tuple(line[2:].strip() for line in blocks[-1].splitlines()) if blocks else ()


def scorer() -> Any:
    """Return the scorer of ROUGE-1 and ROUGE-L, without stemming.

    Raises:
        FedLeaseError: rouge-score is not installed.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise FedLeaseError(
            "the task generation is scored with rouge-score: pip install 'fedlease[generation]'"
        ) from error
    return RougeScorer(["rouge1", "rougeL"], use_stemmer=False)


def scores(
    written: Sequence[str], answers: Sequence[str], offered: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Return the mean scores of texts, each between 0 and 1.

    ``rouge1`` and ``rougeL`` are F-measures by the package rouge-score, which sees the letters a-z and digits
    alone; ``exact_match`` is the share of texts equal to their answer; ``accuracy`` is there where prompts
    offer options, and is the share of those rows whose text is the option wanted, case and white space aside.

    Args:
        written: the texts of the model.
        answers: the text wanted for each.
        offered: the options of each row's prompt, none where it has none.

    Raises:
        FedLeaseError: no rows, or no rouge-score.
    """
    if not written:
        raise FedLeaseError("cannot score 0 rows")
    rouge = scorer()
    each = [rouge.score(wanted, text) for wanted, text in zip(answers, written, strict=True)]
    found = {name: fmean(of_row[name].fmeasure for of_row in each) for name in ("rouge1", "rougeL")}
    pairs = list(zip(written, answers, strict=True))
    found["exact_match"] = fmean(text.strip() == wanted.strip() for text, wanted in pairs)
    chosen = [
        plain(text) == plain(wanted) for (text, wanted), some in zip(pairs, offered, strict=True) if some
    ]
    return {**found, "accuracy": fmean(chosen)} if chosen else found


def plain(text: str) -> str:
    """A text without its case and with single spaces."""
    return " ".join(text.casefold().split())
