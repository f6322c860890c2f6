"""Clients that differ in labels or numbers of rows, or share them out as real federations do."""

from __future__ import annotations

import hashlib
import random
import sys
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from groups import ALPHA, SHARES, SIZES, group, labels, rows_of, tone
from hypothesis import given
from hypothesis import strategies as st

from fedlease.core.errors import FedLeaseError
from fedlease.data.catalog import find
from fedlease.data.federation import ClientPlan, federate
from fedlease.data.splits import Classes, Dirichlet, Quantity, apportion


def test_federations_without_splits_are_those_of_earlier_versions() -> None:
    asked = [
        ClientPlan(f"{task}-{n}", find(task), task, 30 + n, 20)
        for task in ("tone", "answers")
        for n in range(3)
    ]
    clients = federate([*asked, ClientPlan("rest", find("tone"), "tone")], None, 7)
    told = repr(list(clients.items())).replace(", answer=None, roles=()", "")  # rows had texts and label only
    assert hashlib.sha256(told.encode()).hexdigest()[:16] == "69b679d9f2785ea4"


def test_dirichlet_shares_out_the_rows_of_the_group() -> None:
    usual, skewed = tone(None), tone(Dirichlet(0.5))
    assert sorted(rows_of(skewed)) == sorted(rows_of(usual))
    assert {c: data.test for c, data in skewed.items()} == {c: data.test for c, data in usual.items()}
    # The same on every machine and in every process.
    assert [labels(data.train) for data in skewed.values()] == [[12, 3], [1, 56], [35, 28], [24, 1]]
    even = [labels(data.train) for data in tone(Dirichlet(1e6)).values()]
    assert all(abs(one - 20) <= 5 for counts in even for one in counts)
    assert all(len(data.train) >= 20 for data in tone(Dirichlet(0.5, min_rows=20)).values())


def test_dirichlet_repeats_its_draw_until_every_client_has_rows() -> None:
    for seed in range(20):
        assert all(data.train for data in tone(Dirichlet(0.05, 1), seed, count=3).values())
    with pytest.raises(FedLeaseError) as caught:
        tone(Dirichlet(0.001, min_rows=39))
    assert str(caught.value) == (
        "clients 'g': generated tone: no draw with split.alpha 0.001 gives every client 39 of the 160 rows; "
        "raise split.alpha or train_rows, or lower split.min_rows"
    )
    with pytest.raises(
        FedLeaseError, match=r"160 training rows are too few for 4 client\(s\) with at least 41"
    ):
        tone(Dirichlet(0.5, min_rows=41))


def test_classes_are_exact_and_reach_beyond_the_rows_of_the_group() -> None:
    clients = tone(SHARES)
    assert [labels(data.train) for data in clients.values()] == [[36, 4], [4, 36], [20, 20], [40, 0]]
    one_sided = tone(Classes(((1, 0),) * 4))
    assert [labels(data.train) for data in one_sided.values()] == [[40, 0]] * 4
    assert len(set(rows_of(one_sided))) == 160
    assert [row.label for row in clients["g-2"].train] != sorted(row.label for row in clients["g-2"].train)
    rounded = tone(Classes(((1 / 3, 2 / 3),)), count=1, train=10)
    assert labels(rounded["g-0"].train) == [3, 7]


def test_classes_that_cannot_be_are_said() -> None:
    with pytest.raises(FedLeaseError) as caught:
        tone(Classes(((1, 0),) * 4), train=900)
    assert str(caught.value) == (
        "client 'g-2': 900 training rows of generated tone with label 'negative' are needed and 200 are "
        "left; lower the train_rows or change split.shares"
    )
    with pytest.raises(
        FedLeaseError, match=r"client 'g-0': split\.shares has 3 shares for it, and .* 2 labels"
    ):
        tone(Classes(((1, 0, 0),) * 4))


def test_quantities() -> None:
    said = tone(Quantity(rows=(5, 10, 20, 125)), train=None)
    assert [len(data.train) for data in said.values()] == [5, 10, 20, 125]
    assert sorted(rows_of(said)) == sorted(rows_of(tone(None)))
    for split in (SIZES, Quantity(sigma=1.0, min_rows=1), Quantity(alpha=0.2, min_rows=3)):
        drawn = tone(split)
        sizes = [len(data.train) for data in drawn.values()]
        assert sorted(rows_of(drawn)) == sorted(rows_of(tone(None)))
        assert min(sizes) >= split.min_rows
        assert len(set(sizes)) > 1
        assert [len(data.train) for data in tone(split, 1).values()] != sizes
    with pytest.raises(FedLeaseError, match=r"client 'g-3': .* 4000 training rows .* 4125 are needed"):
        tone(Quantity(rows=(1000, 1000, 1000, 1125)), train=None)


@given(st.integers(0, 10_000), st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20))
def test_apportioned_numbers_add_up(total: int, weights: list[float]) -> None:
    shares = apportion(total, weights)
    assert sum(shares) == total
    assert all(abs(n - total * w / sum(weights)) < 1 + 1e-6 for n, w in zip(shares, weights, strict=True))


def test_the_seed_alone_decides(capfd: pytest.CaptureFixture[str]) -> None:
    asked = [*group(ALPHA, find("tone")), *group(SHARES, find("tone"), name="a")]
    first = federate(asked, None, 3)
    numpy.random.seed(99)
    random.seed(99)
    torch.manual_seed(99)
    before = (random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert federate(asked[::-1], None, 3) == first
        tone(Dirichlet(0.01, 1))  # repeats its draw
    after = (random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    assert before == after
    assert federate(asked, None, 4)["g-0"].train != first["g-0"].train
    assert capfd.readouterr() == ("", "")


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flwr_datasets.partitioner", None)
    tone(SHARES)
    tone(SIZES)
    with pytest.raises(FedLeaseError, match=r"pip install 'fedlease\[partition\]'$"):
        tone(ALPHA)


TASKS = ("sst2", "qnli", "mrpc", "qqp")


@pytest.mark.parametrize(
    "counts",
    [{"qnli": 10, "qqp": 6}, {"sst2": 4, "qnli": 7, "qqp": 5}, {"sst2": 3, "qnli": 6, "mrpc": 2, "qqp": 5}],
)
def test_the_papers_unbalanced_tasks_on_real_rows(glue: Path, counts: dict[str, int]) -> None:
    asked = [
        p
        for task, n in counts.items()
        for p in group(None, find(task), name=task, count=n, train=300, test=100)
    ]
    clients = federate(asked, glue, 0)
    assert len(clients) == 16
    assert Counter(name.split("-")[0] for name in clients) == counts
    assert {(len(held.train), len(held.test)) for held in clients.values()} == {(300, 100)}


def test_the_papers_label_skew_on_real_rows(glue: Path) -> None:
    split = Classes(((0.9, 0.1), (0.7, 0.3), (0.3, 0.7), (0.1, 0.9)))
    asked = [plan for task in TASKS for plan in group(split, find(task), name=task, train=300, test=100)]
    usual = federate([replace(plan, group=None) for plan in asked], glue, 0)
    for name, held in federate(asked, glue, 0).items():
        assert labels(held.train) == [[270, 30], [210, 90], [90, 210], [30, 270]][int(name[-1])]
        assert held.test == usual[name].test
