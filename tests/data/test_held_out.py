"""Testing on rows put aside from training rows; whatever is asked for, no row is doubled or leaks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from groups import ALPHA, SIZES, group, rows_of, two_files, write
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlease.core.errors import FedLeaseError
from fedlease.data import sources
from fedlease.data.catalog import find
from fedlease.data.federation import ClientPlan, federate
from fedlease.data.sources import Source
from fedlease.data.splits import Classes, Quantity


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
