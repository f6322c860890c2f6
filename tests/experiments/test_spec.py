"""Specifications: what cannot be is said in one line, by its key; overrides; own files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from runs import federation_of

import fedlease
from fedlease.core.errors import FedLeaseError
from fedlease.data.splits import Classes, Dirichlet, Quantity
from fedlease.experiments.params import parameters
from fedlease.experiments.spec import make_spec, read_spec

CLIENTS = [{"name": "a", "data": "tone"}, {"name": "b", "data": "tone"}]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"round": 3}, "round: there is no such key; known here: name, seed, rounds"),
        ({"training": {"lr": 1}}, "training.lr: there is no such key; known here: learning_rate"),
        ({"model": {"path": "x"}}, "model.path: there is no such key"),
        ({"clients": [*CLIENTS, {"name": "c", "dta": "x"}]}, "clients.2.dta: there is no such key"),
        ({"rounds": 0}, "rounds: .*greater than 0"),
        ({"training": {"batch_size": 0}}, "training.batch_size is 0"),
        ({"method": {"name": "fedavg"}}, "there is no method 'fedavg'; there are: feddpa, fedit"),
        ({"method": {"rank": 4}}, "method.name is missing"),
        ({"method": {"name": "fedit", "rank": 0}}, "rank is 0"),
        ({"method": {"name": "fedit", "ranks": 4}}, "no setting 'ranks'"),
        ({"method": {"name": "fedlease", "experts": 3}}, "method.experts is 3, more experts than the 2"),
        ({"method": {"name": "fedlease", "min_experts": 3}}, "min_experts is 3, more experts than"),
        (
            {"method": {"name": "fedlease", "warmup_rounds": 5}, "rounds": 5},
            "no round is left to train experts",
        ),
        ({"method": {"name": "fedlease", "router_std": 0}}, "router_std is 0"),
        (
            {"clients": [CLIENTS[0], {"name": "b", "data": "tone", "test": "x"}]},
            "test means nothing beside data",
        ),
        (
            {"clients": [CLIENTS[0], {"name": "b", "train": "x", "text": ["t"], "hub_config": "y"}]},
            "hub_config means nothing beside train",
        ),
        (
            {"clients": [CLIENTS[0], {"name": "b", "data": "tone", "task": "ner"}]},
            "there are: classification",
        ),
        ({"clients": CLIENTS[:1]}, "at least two clients, and there is 1"),
        ({"clients": []}, "at least two clients, and there is 0"),
        ({"clients": [CLIENTS[0], CLIENTS[0]]}, "two clients are called a"),
        ({"clients": [CLIENTS[0], {"name": "b"}]}, "one of data, train or hub"),
        ({"clients": [CLIENTS[0], {"name": "b", "train": "x.csv"}]}, "text must name one or two columns"),
        ({"clients": [CLIENTS[0], {"name": "../b", "data": "tone"}]}, "clients.1.name"),
        ({"seed": -1}, "seed"),
        ({"model": {"precision": "float16"}}, "model.precision"),
    ],
)
def test_what_cannot_be_is_said_by_its_key(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(FedLeaseError, match=says) as raised:
        make_spec({"clients": CLIENTS, **changes})
    assert "\n" not in str(raised.value)


def test_toml_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(FedLeaseError, match=r"cannot read .*none\.toml"):
        read_spec(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("rounds = \nseed = 1")
    with pytest.raises(FedLeaseError, match=r"bad\.toml is not valid TOML.*line 1"):
        read_spec(tmp_path / "bad.toml")


def test_a_mark_of_the_byte_order_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    text = "".join(f'[[clients]]\nname = "{name}"\ndata = "tone"\n' for name in "ab")
    path.write_text(text, encoding="utf-8-sig")
    assert read_spec(path).ids == ("a", "b")


def test_an_unknown_data_set_is_named_beside_a_generating_client() -> None:
    clients = [
        {"name": "a", "prompt": ["q"], "answer": "a", "train": "/rows.jsonl"},
        {"name": "b", "data": "alpaca"},
    ]
    with pytest.raises(FedLeaseError, match="no data set is called 'alpaca'; there are: sst2"):
        make_spec({"clients": clients})


def test_overrides(tmp_path: Path) -> None:
    path = tmp_path / "two.toml"
    path.write_text('[[clients]]\nname="a"\ndata="tone"\n[[clients]]\nname="b"\ndata="answers"\n')
    spec = read_spec(
        path, ["method.name=fedit", "method.rank=2", "clients.*.train_rows=5", "clients.b.test_rows=7"]
    )
    assert spec.name == "two"
    assert spec.method == {"name": "fedit", "rank": 2}
    assert [client.train_rows for client in spec.clients] == [5, 5]
    assert [client.test_rows for client in spec.clients] == [None, 7]
    for override, says in (
        ("rounds", "key=value"),
        ("clients.c.train_rows=1", "no client entry called c"),
        ("rounds.x=1", "rounds"),
        ("training.lr=1", "no such key"),
    ):
        with pytest.raises(FedLeaseError, match=says):
            read_spec(path, ["rounds=2", override])


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def test_own_files_work_as_named_data_sets_do(
    spec_of: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = ("fine", "broken", "late")
    rows = [
        {"title": f"parcel {i}", "body": f"it came {kinds[i % 3]}", "class": kinds[i % 3]} for i in range(60)
    ]
    clients = []
    for name, suffix in (("north", "jsonl"), ("east", "csv"), ("south", "parquet")):
        write_rows(tmp_path / f"{name}.{suffix}", rows)
        entry = {"name": name, "train": f"{name}.{suffix}", "text": ["title", "body"], "label": "class"}
        clients.append({**entry, "labels": list(kinds), "train_rows": 24, "test_rows": 12})
    monkeypatch.chdir(tmp_path)
    run = fedlease.run(spec_of(clients=clients, rounds=2), tmp_path / "run")
    facts = run.record["clients"]
    assert {client: fact["train_rows"] for client, fact in facts.items()} == {
        "north": 24,
        "east": 24,
        "south": 24,
    }
    assert facts["north"]["labels"] == list(kinds)
    assert (run.folder / "heads" / "3.safetensors").is_file()


@pytest.mark.parametrize(
    ("model", "method", "rank", "expected"),
    [
        ("roberta-large", "fedit", 8, (355_361_794, 786_432, "0.2213")),
        ("roberta-large", "fedlease", 4, (355_361_794, 737_280, "0.2075")),
        ("roberta-large", "fedsa_lora", 8, (355_361_794, 786_432, "0.2213")),
        ("roberta-large", "ffa_lora", 8, (355_361_794, 393_216, "0.1107")),
        ("roberta-large", "feddpa", 4, (355_361_794, 786_432, "0.2213")),
        ("roberta-large", "ifca_lora", 8, (355_361_794, 786_432, "0.2213")),
        ("llama-2-7b", "ffa_lora", 8, (6_738_415_616, 2_097_152, "0.0311")),
        ("llama-2-7b", "feddpa", 4, (6_738_415_616, 4_194_304, "0.0622")),
        ("llama-2-7b", "fedsa_lora", 8, (6_738_415_616, 4_194_304, "0.0622")),
        ("llama-2-7b", "ifca_lora", 8, (6_738_415_616, 4_194_304, "0.0622")),
        ("llama-2-7b", "fedit", 8, (6_738_415_616, 4_194_304, "0.0622")),
        ("llama-2-7b", "fedlease", 4, (6_738_415_616, 3_932_160, "0.0584")),
    ],
)
def test_trainable_parameters_are_the_papers(
    model: str, method: str, rank: int, expected: tuple[int, int, str]
) -> None:
    found = parameters(model, method, rank, 4)
    assert (found.base, found.trainable, f"{found.percent:.4f}") == expected


def test_parameters_of_a_config_file(tiny: Path) -> None:
    found = parameters(str(tiny / "config.json"), "fedlease", 2, 3)
    assert found.by_part == {"A": 4 * 2 * 32, "B": 4 * 2 * 32, "router": 4 * 5 * 32}
    assert parameters(str(tiny), "fedlease", 2, 3) == found
    with pytest.raises(FedLeaseError, match="no shape is known for 'gpt-9'"):
        parameters("gpt-9", "fedlease", 2, 3)


SKEWED = {"by": "dirichlet", "alpha": 0.5}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"split": {"by": "labels"}},
            ".split: by is 'labels'; it must be one of: dirichlet, classes, quantity",
        ),
        ({"split": {}}, ".split: by is None; it must be one of: dirichlet"),
        ({"split": "dirichlet"}, ".split: it must be a table with the key by, one of: dirichlet"),
        ({"split": {"by": "dirichlet"}}, ".split.alpha: Field required"),
        (
            {"split": {**SKEWED, "alpa": 1}},
            ".split.alpa: there is no such key; known here: alpha, min_rows, by",
        ),
        ({"split": {**SKEWED, "alpha": 0}}, ".split: alpha is 0; it must be at least 0.001 and at most"),
        ({"split": {**SKEWED, "alpha": float("nan")}}, ".split: alpha is nan; it must be at least"),
        ({"split": {**SKEWED, "min_rows": 0}}, ".split: min_rows is 0; it must be at least 1"),
        (
            {"split": SKEWED, "count": None},
            ": split divides rows among the clients of a group: it needs count",
        ),
        ({"split": {"by": "classes", "shares": [[1, 0]]}}, ": split: shares has 1 entries for 3 client(s)"),
        (
            {"split": {"by": "classes", "shares": [[0.9, 0.2]] * 3}},
            ".split: shares.0 is 0.9, 0.2; it must be numbers from 0 that add up to 1",
        ),
        (
            {"split": {"by": "quantity"}},
            ".split: say the numbers of rows by one of alpha, sigma or rows (none",
        ),
        ({"split": {"by": "quantity", "alpha": 1, "sigma": 1}}, "rows (alpha and sigma given)"),
        ({"split": {"by": "quantity", "rows": [1]}}, ": split: rows has 1 entries for 3 client(s)"),
        ({"split": {"by": "quantity", "rows": [1, 0, 2]}}, ".split: rows.1 is 0; it must be at least 1"),
        (
            {"split": {"by": "quantity", "rows": [1, 2, 3]}, "train_rows": 4},
            ": train_rows means nothing beside split.rows: leave it out",
        ),
        ({"data": []}, ": data is []: name at least one data set, each once"),
        ({"data": ["tone", "tone"]}, ": data is ['tone', 'tone']: name at least one data set"),
        ({"data": 3}, ".data: Input should be a valid string (3 given)"),
        ({"data": ["tone"], "text": ["x"]}, ": text means nothing beside data"),
    ],
)
def test_what_a_group_cannot_be_is_said(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(FedLeaseError) as raised:
        make_spec({"clients": [CLIENTS[0], {**CLIENTS[1], "count": 3, **changes}]})
    assert says in str(raised.value)
    assert str(raised.value).startswith("spec: clients.1")
    assert "\n" not in str(raised.value)


def test_splits_and_mixtures_are_kept_as_they_were_said(tmp_path: Path) -> None:
    path = tmp_path / "skewed.toml"
    path.write_text(
        """
        [data]
        held_out = true
        [[clients]]
        name = "mixed"
        data = ["tone", "answers"]
        [[clients]]
        name = "a"
        count = 2
        data = "tone"
        split = { by = "classes", shares = [[0.9, 0.1], [0, 1]] }
        [[clients]]
        name = "b"
        count = 2
        data = "tone"
        split = { by = "quantity", rows = [5, 50] }
        [[clients]]
        name = "c"
        count = 2
        data = "tone"
        """
    )
    spec = read_spec(path, ['clients.c.split={by="dirichlet", alpha=0.5}'])
    assert spec.data.held_out
    assert spec.clients[0].data == ("tone", "answers")
    assert [entry.split for entry in spec.clients] == [
        None,
        Classes(((0.9, 0.1), (0.0, 1.0))),
        Quantity(rows=(5, 50)),
        Dirichlet(0.5),
    ]
    assert make_spec(spec.model_dump(mode="json")) == spec
    assert make_spec(json.loads(json.dumps(spec.model_dump(mode="json")))) == spec


def test_a_record_tells_the_labels_of_every_client(
    spec_of: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    shares = {"by": "classes", "shares": [[0.75, 0.25], [0.25, 0.75]]}
    rows = {"train_rows": 24, "test_rows": 10}
    clients = [
        {"name": "tone", "data": "tone", "count": 2, "split": shares, **rows},
        {"name": "both", "data": ["tone", "answers"], "count": 2, **rows},
    ]
    made = spec_of(clients=clients, rounds=2)
    facts = fedlease.run(made, tmp_path / "run").record["clients"]
    assert [facts[f"tone-{n}"]["label_counts"]["train"] for n in (0, 1)] == [[18, 6], [6, 18]]
    assert {sum(fact["label_counts"]["test"]) for fact in facts.values()} == {10}
    assert (facts["both-0"]["data"], facts["both-0"]["group"]) == ("tone+answers", "both")
    assert facts["both-0"]["train_rows"] == sum(facts["both-0"]["label_counts"]["train"]) == 24
    held = federation_of({**made, "data": {"held_out": True}}).clients
    assert all(held[client]["rows_hash"] != facts[client]["rows_hash"] for client in facts)
    assert fedlease.resume(tmp_path / "run").record["clients"] == facts
