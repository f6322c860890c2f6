"""The generated tasks are what their docstrings say, and the catalogue finds everything by name."""

from __future__ import annotations

import re
from collections import Counter
from statistics import mean

import pytest

from fedlease.core.errors import FedLeaseError
from fedlease.data import catalog, generated
from fedlease.data.generated import _messages
from fedlease.data.sources import Example, load

NAMES = generated.names()


def words(example: Example) -> list[str]:
    return [word.strip(".,?!").lower() for text in example.texts for word in text.split()]


def test_the_tasks() -> None:
    assert NAMES == ("answers", "paraphrase", "requests", "tone")


@pytest.mark.parametrize("name", NAMES)
def test_rows_depend_on_the_seed_alone(name: str) -> None:
    assert generated.generate(name, 50, 1) == generated.generate(name, 80, 1)[:50]
    assert generated.generate(name, 50, 1) != generated.generate(name, 50, 2)


@pytest.mark.parametrize("name", NAMES)
def test_splits_are_distinct_and_balanced(name: str) -> None:
    train, test = generated.split(name)
    assert (len(train), len(test)) == (4000, 1000)
    assert len({tuple(text.lower() for text in row.texts) for row in train + test}) == 5000
    for rows in (train, test):
        assert 2 * sum(row.label for row in rows) == len(rows)
    table = load(catalog.find(name))
    assert (table.train, table.test, table.labels) == (train, test, generated.labels(name))
    assert table.origin == f"generated task {name}"


@pytest.mark.parametrize("name", NAMES)
def test_length_gives_no_label_away(name: str) -> None:
    train, _ = generated.split(name)
    for measure in (lambda text: len(text), lambda text: len(text.split())):
        sizes = [(sum(map(measure, row.texts)), row.label) for row in train]
        cut = mean(size for size, _ in sizes)
        agree = mean((size > cut) == (label == 1) for size, label in sizes)
        assert abs(agree - 0.5) < 0.1


@pytest.mark.parametrize("name", ["answers", "paraphrase"])
def test_single_words_give_no_pair_away(name: str) -> None:
    train, _ = generated.split(name)
    counts: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for row in train:
        counts[row.label].update(words(row))
    for word in counts[0] | counts[1]:
        both = counts[0][word] + counts[1][word]
        if both > 400:
            assert abs(counts[0][word] / both - 0.5) < 0.1, word


def test_what_one_task_of_messages_asks_says_nothing_of_the_other() -> None:
    forms = [re.sub("{.*?}", ".+", re.escape(form).replace(r"\{", "{")) for form in _messages.REQUEST]
    asks = re.compile("|".join(forms), re.IGNORECASE)
    for name, share_by_label in (("tone", (0.5, 0.5)), ("requests", (0.0, 1.0))):
        train, _ = generated.split(name)
        for label, share in enumerate(share_by_label):
            found = mean(bool(asks.search(row.texts[0])) for row in train if row.label == label)
            assert found == pytest.approx(share, abs=0.05 if name == "tone" else 0)


def test_more_rows_than_the_templates_can_make(monkeypatch: pytest.MonkeyPatch) -> None:
    from fedlease.data.generated import tone

    monkeypatch.setattr(tone, "texts", lambda pick, label: (f"{label} {pick.number(0, 4)}",))
    assert len(generated.generate("tone", 10, 0)) == 10
    with pytest.raises(FedLeaseError, match="'tone' cannot make 11 different rows"):
        generated.generate("tone", 11, 0)


def test_names_that_do_not_exist_list_those_that_do() -> None:
    with pytest.raises(FedLeaseError) as caught:
        catalog.find("sst3")
    assert str(caught.value) == (
        "no data set is called 'sst3'; there are: sst2, qnli, mrpc, qqp, arc_easy, bool_q, cola, "
        "definite_pronoun_resolution, fix_punct, gigaword, glue_qqp, hellaswag, paws_wiki, flan_qnli, "
        "sentiment140, snli, trec, web_nlg_en, wic, word_segment, answers, paraphrase, requests, tone"
    )
    with pytest.raises(FedLeaseError, match="'_messages'; there are: answers, paraphrase, requests, tone"):
        generated.generate("_messages", 1, 0)


def test_demonstrations_use_what_there_is() -> None:
    assert catalog.demo_tasks("folder") == catalog.demo_tasks("hub") == ("sst2", "qnli", "mrpc", "qqp")
    assert catalog.demo_tasks("generated") == NAMES
    assert catalog.find("mrpc").hub_config == "mrpc"
