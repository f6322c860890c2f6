"""Data sets of the hub, with the library's loader put aside: nothing here goes over a network."""

from __future__ import annotations

from typing import Any

import datasets
import pytest

from fedlease.core.errors import FedLeaseError
from fedlease.data import sources
from fedlease.data.sources import Example, Source, load

FEATURES = datasets.Features(
    {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
)
SPLITS = {
    "train": {"sentence": ["a ", "b", "c"], "label": [1, 0, 1]},
    "validation": {"sentence": ["d"], "label": [0]},
    "secret": {"sentence": ["e", "f"], "label": [0, -1]},
    "none": {"sentence": [], "label": []},
}


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    seen: list[tuple[Any, ...]] = []

    def load_dataset(path: str, name: str | None = None, *, split: str) -> datasets.Dataset:
        seen.append((path, name, split))
        if path == "no/such":
            raise ConnectionError("Couldn't reach\n\n 'no/such'  on the Hub")
        return datasets.Dataset.from_dict(SPLITS[split], features=FEATURES)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    sources._load.cache_clear()
    return seen


def hub(**changes: Any) -> Source:
    return Source(**{"text": ("sentence",), "hub": "some/set", "hub_config": "part", **changes})


def problem(source: Source) -> str:
    with pytest.raises(FedLeaseError) as caught:
        load(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_rows_and_label_names(calls: list[tuple[Any, ...]]) -> None:
    table = load(hub(test_split="validation"))
    assert table.train == (Example(("a",), 1), Example(("b",), 0), Example(("c",), 1))
    assert table.test == (Example(("d",), 0),)
    assert table.labels == ("bad", "good")
    assert table.origin == "hub data set some/set (part)"
    assert calls == [("some/set", "part", "train"), ("some/set", "part", "validation")]


def test_prompts_and_answers() -> None:
    asked = hub(text=(), prompt=("sentence",), answer="sentence2", test_split="validation")
    assert problem(asked).endswith("split train: no column 'sentence2'; there are: sentence, label")


def test_chats(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    made = datasets.Dataset.from_dict({"messages": [talk], "other": [1]})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: made)
    table = load(hub(text=(), messages="messages"))
    assert table.train == (Example(("Hi",), answer="Ho", roles=("user",)),)
    assert table.labels == ()


def test_without_a_test_split_only_the_training_split_is_loaded(calls: list[tuple[Any, ...]]) -> None:
    assert load(hub()).test is None
    assert load(hub(test_split="train")).test is None
    assert [call[2] for call in calls] == ["train", "train"]


def test_given_label_names_win() -> None:
    assert load(hub(labels=("down", "up"))).labels == ("down", "up")


def test_a_file_is_preferred_only_where_there_is_a_root(tmp_path: Any) -> None:
    (tmp_path / "x.csv").write_text("sentence,label\nfrom a file,0\nalso,1\n")
    both = hub(train="x.csv")
    assert load(both, None).train[0].texts == ("a",)
    assert load(both, tmp_path).train[0].texts == ("from a file",)
    assert load(hub(train=str(tmp_path / "x.csv")), None).train[0].texts == ("from a file",)


def test_errors_name_the_data_set_the_split_and_the_row() -> None:
    where = "hub data set some/set (part), split"
    message = problem(hub(hub="no/such"))
    assert message.startswith(
        "hub data set no/such (part), split train: cannot be loaded (Couldn't reach 'no/such' on"
    )
    assert problem(hub(text=("phrase",))) == f"{where} train: no column 'phrase'; there are: sentence, label"
    assert problem(hub(train_split="secret")).startswith(
        f"{where} secret, row 2: label '-1' in column 'label'"
    )
    assert problem(hub(test_split="none")) == f"{where} none: has no rows"
