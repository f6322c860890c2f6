"""Questions and answers through Flower's own server code: what the fake Grid of other tests may get wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from flwr.app import Message
from superlink import Site, SuperLink

from fedlease.core.protocols import Message as Ours
from fedlease.engines.flower_messages import from_records, to_records
from fedlease.engines.mailbox import Address, Answers, Mailbox


def doubled(question: Message) -> Message:
    message, _ = from_records(question.content)
    weights = {name: 2 * tensor for name, tensor in message.weights.items()}
    return Message(to_records(Ours(weights, message.facts)), reply_to=question)


@contextmanager
def sites(*uploads: float) -> Iterator[tuple[SuperLink, list[Site]]]:
    link = SuperLink(len(uploads))
    made = [Site(link, node, doubled, upload) for node, upload in zip(link.nodes, uploads, strict=True)]
    for site in made:
        site.start()
    try:
        yield link, made
    finally:
        for site in made:
            site.end()


def asked(link: SuperLink, patience: float | None, deadline: float) -> Answers:
    questions = {
        f"site-{n}": to_records(Ours({"w": torch.full((3,), float(n))}, {"round": 1}))
        for n in range(len(link.nodes))
    }
    where = {f"site-{n}": Address(node, "1") for n, node in enumerate(link.nodes)}
    mail = Mailbox(link.grid(), 0.05, time, patience)
    return mail.ask(questions, lambda: where, "train.task", "1", deadline)


def test_answers_count_once_however_long_they_take_to_arrive() -> None:
    with sites(2.0, 0.0, 1.2) as (link, there):
        came = asked(link, patience=0.2, deadline=60.0)
    assert came.failed == {}
    values = {client: from_records(one)[0].weights["w"].tolist() for client, one in came.records.items()}
    assert values == {f"site-{n}": [2.0 * n] * 3 for n in range(3)}
    assert [site.asked for site in there] == [1, 1, 1]


def test_who_never_ends_its_upload_is_late_alone() -> None:
    with sites(600.0, 0.0) as (link, there):
        began = time.monotonic()
        came = asked(link, patience=0.2, deadline=3.0)
        assert time.monotonic() - began < 10
        assert list(came.records) == ["site-1"]
        assert came.failed == {"site-0": "did not answer in 3 s"}
    assert [site.asked for site in there] == [1, 1]
