"""Clients that differ in labels, numbers of rows or tasks; testing on rows put aside from training rows."""

from __future__ import annotations

import hashlib
import json
import random
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlease.core.errors import FedLeaseError
from fedlease.data import sources
from fedlease.data.catalog import find
from fedlease.data.federation import ClientData, ClientPlan, federate
from fedlease.data.sources import Source
from fedlease.data.splits import Classes, Dirichlet, Group, Quantity, Split, apportion

ALPHA = Dirichlet(0.5, min_rows=1)
SHARES = Classes(((0.9, 0.1), (0.1, 0.9), (0.5, 0.5), (1, 0)))
SIZES = Quantity(alpha=1.0, min_rows=1)


def group(
    split: Split | None,
    *of: Source,
    name: str = "g",
    count: int = 4,
    train: int | None = 40,
    test: int | None = 5,
) -> list[ClientPlan]:
    names = tuple(f"{name}-{n}" for n in range(count))
    shared = None if split is None else Group(name, names, split)
    return [ClientPlan(client, of[0], "t", train, test, of[1:], shared) for client in names]


def labels(rows: Sequence[Any]) -> list[int]:
    counts = Counter(row.label for row in rows)
    return [counts[0], counts[1]]


def tone(split: Split | None, seed: int = 0, **asked: Any) -> dict[str, ClientData]:
    return federate(group(split, find("tone"), **asked), None, seed)


def rows_of(clients: dict[str, ClientData], part: str = "train") -> list[tuple[str, ...]]:
    return [row.texts for data in clients.values() for row in getattr(data, part)]


def write(path: Path, texts: Sequence[str], labels: int = 2) -> str:
    rows = (json.dumps({"t": text, "label": n % labels}) + "\n" for n, text in enumerate(texts))
    path.write_text("".join(rows))
    return str(path)


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


def test_several_tasks_in_one_client() -> None:
    both = (find("tone"), find("answers"))
    clients = federate([*group(None, *both, train=41, test=11), *group(None, both[1], name="z")], None, 0)
    known = [{row.texts for data in federate(group(None, of, train=900, test=200), None, 0).values()
              for row in (*data.train, *data.test)} for of in both]  # fmt: skip
    for name in ("g-0", "g-3"):
        held = clients[name]
        for rows, parts in ((held.train, [21, 20]), (held.test, [6, 5])):
            assert [sum(row.texts in texts for row in rows) for texts in known] == parts
            first = [row.texts in known[0] for row in rows]
            assert first != sorted(first)  # mixed, not one after the other
            assert first != sorted(first, reverse=True)
        assert held.labels == tuple(map("/".join, zip(*(of.labels for of in both), strict=True)))
        assert held.origin == "generated task tone and generated task answers"
    assert len(set(rows_of(clients))) == 4 * 41 + 4 * 40


def test_mixed_clients_split_each_task() -> None:
    both = (find("tone"), find("answers"))
    exact = federate(group(SHARES, *both), None, 0)
    assert [labels(data.train) for data in exact.values()] == [[36, 4], [4, 36], [20, 20], [40, 0]]
    sized = federate(group(Quantity(alpha=0.5), *both), None, 0)
    alone = federate(group(Quantity(alpha=0.5), both[0], train=20), None, 0)
    assert [len(data.train) for data in sized.values()] == [2 * len(data.train) for data in alone.values()]
    drawn = federate(group(ALPHA, *both), None, 0)
    assert sorted(rows_of(drawn)) == sorted(rows_of(federate(group(None, *both), None, 0)))


def test_what_cannot_be_mixed_or_grouped(tmp_path: Path) -> None:
    three = Source(text=("t",), train=write(tmp_path / "three.jsonl", [f"row {n}" for n in range(60)], 3))
    with pytest.raises(FedLeaseError) as caught:
        federate(group(None, find("tone"), three), None, 0)
    assert str(caught.value) == (
        "client 'g-0': mixed data sets need the same number of labels, and generated tone has 2 and "
        f"{three} has 3"
    )
    with pytest.raises(FedLeaseError, match="client 'g-0': one data set is named twice"):
        group(None, three, three)
    with pytest.raises(
        FedLeaseError, match=r"client 'g-0': test_rows is 1; it must be at least 2 \(one of each"
    ):
        group(None, three, find("tone"), test=1)
    whole = group(ALPHA, find("tone"))
    for torn in (whole[:3], [*whole[:3], replace(whole[3], source=find("answers"))]):
        with pytest.raises(FedLeaseError, match="client 'g-0': the clients it shares rows with are not all"):
            federate(torn, None, 0)
    with pytest.raises(FedLeaseError, match="client 'x': it is no member of the group 'g'"):
        replace(whole[0], name="x")
    with pytest.raises(FedLeaseError, match=r"clients 'g': split: shares has 4 entries for 3 client"):
        group(SHARES, find("tone"), count=3)


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flwr_datasets.partitioner", None)
    tone(SHARES)
    tone(SIZES)
    with pytest.raises(FedLeaseError, match=r"pip install 'fedlease\[partition\]'$"):
        tone(ALPHA)


def two_files(folder: Path) -> Source:
    train = [f"train {n}" for n in range(100)] + ["TEST  3", "test 17"]
    return Source(
        text=("t",),
        train=write(folder / "train.jsonl", train),
        test=write(folder / "test.jsonl", [f"test {n}" for n in range(30)]),
    )


def test_held_out_rows_are_training_rows(tmp_path: Path) -> None:
    two = two_files(tmp_path)
    one = Source(text=("t",), train=write(tmp_path / "all.jsonl", [f"one {n}" for n in range(100)]))
    for source in (two, one, find("tone")):
        for test, train in ((5, 12), (None, 12), (5, None)):
            asked = group(None, source, train=train, test=test)
            usual, held = federate(asked, None, 1), federate(asked, None, 1, held_out=True)
            off = set(rows_of(usual, "test")) | {("TEST  3",), ("test 17",)}
            assert not off & set(rows_of(held))
            assert not off & set(rows_of(held, "test"))
            assert not set(rows_of(held)) & set(rows_of(held, "test"))
            assert all(len(data.test) == test or test is None for data in held.values())
            if train:  # tested elsewhere, trained as ever
                assert [data.train for data in held.values()] == [data.train for data in usual.values()]
    whole = federate([ClientPlan("a", two, "t"), ClientPlan("b", two, "t")], None, 0, held_out=True)
    assert [(len(data.train), len(data.test)) for data in whole.values()] == [(40, 10), (40, 10)]
    with pytest.raises(FedLeaseError, match="has 100 rows for training and testing together, and 100 are"):
        federate(group(None, two, train=1, test=25), None, 0, held_out=True)


def test_rows_of_a_hub_are_held_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def hub_split(hub: str, config: str | None, split: str, place: str) -> Any:
        rows = [{"t": f"{split} {n}", "label": n % 2} for n in range(80)]
        return SimpleNamespace(
            column_names=["t", "label"], features={"label": None}, select_columns=lambda names: rows
        )

    monkeypatch.setattr(sources, "_hub_split", hub_split)
    source = Source(text=("t",), hub="some/hub", test_split="validation")
    usual = federate(group(None, source, train=5), None, 0)
    held = federate(group(None, source, train=5), None, 0, held_out=True)
    assert all(texts[0].startswith("validation") for texts in rows_of(usual, "test"))
    assert all(texts[0].startswith("train") for texts in rows_of(held, "test") + rows_of(held))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), held_out=st.booleans(), seed=st.integers(0, 3))
def test_whatever_is_asked_for_no_row_is_doubled_or_leaks(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, held_out: bool, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    # Rows of one file stand in the other, and training rows have the texts of test rows.
    two = two_files(folder)
    one = Source(
        text=("t",), train=write(folder / "one.jsonl", [f"one {n}" for n in range(120)] + ["Test 4"])
    )
    asked: list[ClientPlan] = []
    for name in ("a", "b", "c"):
        split = data.draw(
            st.sampled_from([None, ALPHA, SIZES, Quantity(sigma=0.5, min_rows=2), Classes(((0.7, 0.3),) * 2)])
        )
        of = data.draw(st.sampled_from([(two,), (one,), (two, one), (one, two)]))
        rows = data.draw(st.sampled_from([4, 7, 9]))
        asked += group(split, *of, name=name, count=2, train=rows, test=data.draw(st.integers(2, 4)))
    clients = federate(asked, None, seed, held_out=held_out)
    assert federate(data.draw(st.permutations(asked)), None, seed, held_out=held_out) == clients

    def keys(rows: Sequence[Any]) -> set[str]:
        return {" ".join(row.texts[0].casefold().split()) for row in rows}

    trained = [keys(held.train) for held in clients.values()]
    tested = set.union(*(keys(held.test) for held in clients.values()))
    assert not any(one & other for one, other in combinations(trained, 2))
    assert not tested & set.union(*trained)
    from_two = any(two in plan.sources for plan in asked)  # else its test rows are rows like any
    assert not (held_out and from_two) or not any(key.startswith("test ") for key in tested.union(*trained))
    for plan in asked:
        held = clients[plan.name]
        assert held.train
        assert len(held.train) == len(keys(held.train))
        assert len(held.test) == plan.test_rows
        if plan.group is None or isinstance(plan.group.split, Classes):
            assert len(held.train) == plan.train_rows
    for name in ("a", "b", "c"):  # the budget of a group is kept
        of_group = [plan for plan in asked if plan.name.startswith(name)]
        assert sum(len(clients[plan.name].train) for plan in of_group) == sum(
            p.train_rows or 0 for p in of_group
        )
    if seed:
        assert federate(asked, None, 0, held_out=held_out) != clients


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
