"""Clients with several tasks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from groups import ALPHA, SHARES, group, labels, rows_of, write

from fedlease.core.errors import FedLeaseError
from fedlease.data.catalog import find
from fedlease.data.federation import federate
from fedlease.data.sources import Source
from fedlease.data.splits import Quantity


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
