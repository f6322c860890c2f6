"""Which rows clients get: disjoint, by the seed alone, never a test row's text in training."""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from groups import write
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlease.core.errors import FedLeaseError
from fedlease.data.catalog import GLUE, find
from fedlease.data.federation import ClientData, ClientPlan, federate
from fedlease.data.sources import Source


def numbered(count: int, word: str = "row") -> list[str]:
    return [f"{word} {number}" for number in range(count)]


@pytest.fixture
def two_files(tmp_path: Path) -> Source:
    train = write(tmp_path / "train.jsonl", numbered(100, "Train"))
    test = write(tmp_path / "test.jsonl", numbered(20, "test"))
    return Source(text=("t",), train=train, test=test)


@pytest.fixture
def one_file(tmp_path: Path) -> Source:
    return Source(text=("t",), train=write(tmp_path / "all.jsonl", numbered(100)))


def plans(source: Source, *rows: tuple[int | None, int | None]) -> list[ClientPlan]:
    return [ClientPlan(f"client-{n}", source, "task", *pair) for n, pair in enumerate(rows)]


def key(row: Any) -> tuple[str, ...]:
    return tuple(" ".join(text.casefold().split()) for text in row.texts)


def check_disjoint(clients: list[ClientData]) -> None:
    """Training parts, and test parts not shared, have no row in common; no test row is trained on."""
    tested = {key(row) for data in clients for row in data.test}
    for data in clients:
        assert data.train
        assert data.test
        assert len(set(data.test)) == len(data.test)
        assert not tested & {key(row) for row in data.train}
    for one, other in combinations(clients, 2):
        assert not set(one.train) & set(other.train)
        if not one.shared_test:
            assert not set(one.test) & set(other.test)


def problem(given_plans: list[ClientPlan]) -> str:
    with pytest.raises(FedLeaseError) as caught:
        federate(given_plans, None, 0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_rows_asked_for(two_files: Source) -> None:
    clients = federate(plans(two_files, (30, 5), (50, 10), (20, 5)), None, 0)
    assert [(len(data.train), len(data.test)) for data in clients.values()] == [(30, 5), (50, 10), (20, 5)]
    assert not any(data.shared_test for data in clients.values())
    assert clients["client-0"].labels == ("0", "1")
    assert clients["client-0"].origin == f"{two_files.train} and {two_files.test}"
    check_disjoint(list(clients.values()))
    assert {row.texts[0] for data in clients.values() for row in data.train} == set(numbered(100, "Train"))


def test_equal_shares_of_what_is_left(two_files: Source, one_file: Source) -> None:
    def sizes(source: Source, *rows: tuple[int | None, int | None]) -> list[tuple[int, int]]:
        clients = list(federate(plans(source, *rows), None, 0).values())
        check_disjoint(clients)
        return [(len(data.train), len(data.test)) for data in clients]

    assert sizes(two_files, (None, None)) == [(100, 20)]
    assert sizes(two_files, (None, None), (None, None), (None, None)) == [(33, 6)] * 3
    assert sizes(two_files, (40, None), (None, 2), (None, None)) == [(40, 9), (30, 2), (30, 9)]
    assert sizes(one_file, (None, None)) == [(80, 20)]
    assert sizes(one_file, (None, None), (None, None)) == [(40, 10)] * 2
    assert sizes(one_file, (None, 10), (20, 30)) == [(40, 10), (20, 30)]


def test_too_few_test_rows_are_shared(two_files: Source) -> None:
    clients = list(federate(plans(two_files, (10, 15), (10, 15)), None, 0).values())
    assert all(data.shared_test for data in clients)
    assert [len(data.test) for data in clients] == [15, 15]
    assert set(clients[0].test) != set(clients[1].test)
    check_disjoint(clients)


def test_the_seed_decides(two_files: Source) -> None:
    asked = plans(two_files, (30, 5), (50, 10))
    assert federate(asked, None, 1) == federate(asked, None, 1)
    assert federate(asked, None, 1)["client-0"].train != federate(asked, None, 2)["client-0"].train
    assert federate(asked, None, 1)["client-0"].test != federate(asked, None, 2)["client-0"].test


def test_clients_of_other_sources_and_the_order_of_plans_change_nothing(
    two_files: Source, one_file: Source
) -> None:
    mixed = [
        *plans(two_files, (30, 15), (50, 15)),
        ClientPlan("a", one_file, "other", 10, 10),
        ClientPlan("z", one_file, "other", 10, 10),
    ]
    clients = federate(mixed, None, 3)
    assert list(clients) == ["a", "client-0", "client-1", "z"]
    assert federate(mixed[::-1], None, 3) == clients
    alone = federate(mixed[:2], None, 3)
    assert {name: clients[name] for name in alone} == alone


def test_the_same_file_in_another_folder_is_dealt_the_same(tmp_path: Path) -> None:
    drawn = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "all.jsonl", numbered(50))
        source = Source(text=("t",), train=str(tmp_path / folder / "all.jsonl"))
        drawn.append(federate(plans(source, (20, 5)), None, 0)["client-0"])
    assert (drawn[0].train, drawn[0].test) == (drawn[1].train, drawn[1].test)


def test_texts_of_test_rows_are_dropped_from_training(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", [*numbered(10), "Test  7", "TEST 3"])
    write(tmp_path / "test.jsonl", numbered(10, "test"))
    source = Source(text=("t",), train=str(tmp_path / "train.jsonl"), test=str(tmp_path / "test.jsonl"))
    for seed in range(5):
        data = federate(plans(source, (None, 2)), None, seed)["client-0"]
        assert sorted(row.texts[0] for row in data.train) == numbered(10)


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), min_size=30, max_size=60),
    tested=st.integers(1, 4),
    seed=st.integers(0, 5),
)
def test_duplicates_in_one_file_never_leak(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], tested: int, seed: int
) -> None:
    path = tmp_path_factory.mktemp("rows") / "all.jsonl"
    write(path, texts)
    source = Source(text=("t",), labels=("0", "1"), train=str(path))
    asked = [ClientPlan("a", source, "t", None, tested), ClientPlan("b", source, "t", None, tested)]
    try:
        clients = federate(asked, None, seed)
    except FedLeaseError as error:  # hardly anything is left that is not in the test rows
        assert "training rows" in str(error)  # noqa: PT017
        return
    trained = {row.texts for data in clients.values() for row in data.train}
    assert not trained & {row.texts for data in clients.values() for row in data.test}
    assert [len(data.test) for data in clients.values()] == [tested, tested]


def test_errors_name_the_client_and_the_numbers(two_files: Source, one_file: Source) -> None:
    train = f"{two_files.train} has 100 training rows for its 2 client(s), and 110 are needed"
    assert problem(plans(two_files, (60, 5), (50, 5))) == f"client 'client-1': {train}; lower the train_rows"
    train = f"{two_files.train} has 100 training rows for its 2 client(s), and 101 are needed"
    assert (
        problem(plans(two_files, (100, 5), (None, 5))) == f"client 'client-1': {train}; lower the train_rows"
    )
    test = f"{two_files.train} has 20 test rows, and 21 are needed; lower the test_rows"
    assert problem(plans(two_files, (10, 5), (10, 21))) == f"client 'client-1': {test}"
    test = f"{two_files.train} has 20 test rows for its 2 client(s), and 21 are needed; lower the test_rows"
    assert problem(plans(two_files, (10, 20), (10, None))) == f"client 'client-1': {test}"
    assert problem(plans(one_file, (10, 50), (10, 50))).startswith(
        f"client 'client-0': {one_file.train} has 100 rows for training and testing together, and 100 are"
    )
    for rows, name in (((0, 1), "train_rows is 0"), ((1, -2), "test_rows is -2")):
        with pytest.raises(FedLeaseError, match=f"client 'client-0': {name}; it must be at least 1"):
            plans(one_file, rows)


def test_errors_of_federations_that_make_no_sense(two_files: Source) -> None:
    assert problem([]) == "a federation needs at least one client"
    twice = plans(two_files, (1, 1)) * 2
    assert problem(twice) == "two clients are called 'client-0'; every client needs its own name"
    held_out = Source(text=("t",), train=two_files.train)
    mixed = [ClientPlan("a", two_files, "t", 1, 1), ClientPlan("b", held_out, "t", 1, 1)]
    assert problem(mixed).startswith(
        f"clients 'a' and 'b' read the same rows of {two_files.train} but differ"
    )
    again = f"{Path(str(two_files.train)).parent}/./{Path(str(two_files.train)).name}"
    other = Source(text=("label",), label="t", train=again, test=two_files.test)
    mixed = [ClientPlan("a", two_files, "t", 1, 1), ClientPlan("b", other, "t", 1, 1)]
    assert "read the same rows of" in problem(mixed)


def test_generated_tasks_are_dealt_like_any() -> None:
    asked = [
        ClientPlan(f"{task}-{n}", find(task), task, 250, 100)
        for task in ("tone", "answers")
        for n in range(4)
    ]
    clients = federate(asked, None, 0)
    for task in ("tone", "answers"):
        check_disjoint([data for name, data in clients.items() if name.startswith(task)])


def real_root() -> Path | None:
    named = os.environ.get("FEDLEASE_DATA")
    roots = [Path(named)] if named else [Path(__file__).resolve().parents[2].parent / "shared" / "data"]
    return next((root for root in roots if (root / "glue").is_dir()), None)


@pytest.mark.skipif(real_root() is None, reason="no folder of GLUE rows: set FEDLEASE_DATA")
@pytest.mark.parametrize("task", list(GLUE))
def test_the_papers_federation_on_real_rows(task: str) -> None:
    asked = [ClientPlan(f"{task}-{n}", find(task), task, 900, 200) for n in range(4)]
    clients = federate(asked, real_root(), 0)
    check_disjoint(list(clients.values()))
    assert {(len(data.train), len(data.test)) for data in clients.values()} == {(900, 200)}
    assert {data.shared_test for data in clients.values()} == {task == "mrpc"}  # 408 rows for 4 x 200
    assert federate(asked[::-1], real_root(), 0) == clients
    for data in clients.values():
        assert 0.2 < sum(row.label for row in data.train) / 900 < 0.8


def test_no_client_trains_on_rows_another_is_tested_on(tmp_path: Path) -> None:
    write(tmp_path / "x.jsonl", [*numbered(50, "x"), "Y  3"])
    write(tmp_path / "y.jsonl", numbered(40, "y"))
    x, y = (str(tmp_path / f"{name}.jsonl") for name in "xy")
    tested_on_y = ClientPlan("a", Source(text=("t",), train=x, test=y), "t", None, 10)
    trains_on_y = ClientPlan("b", Source(text=("t",), train=y), "t", None, 5)
    for seed in range(5):
        clients = federate([tested_on_y, trains_on_y], None, seed)
        check_disjoint([clients["b"]])
        tested = {key(row) for data in clients.values() for row in data.test}
        assert not tested & {key(row) for data in clients.values() for row in data.train}
        assert len(clients["b"].train) >= 25
        assert federate([trains_on_y, tested_on_y], None, seed) == clients
    all_of_y = ClientPlan("a", tested_on_y.source, "t", None, None)
    assert problem([all_of_y, trains_on_y]) == (
        f"client 'b': {y} has 0 training rows (less 35 that are test rows) for its 1 client(s), and 1 are "
        "needed; lower the train_rows"
    )
