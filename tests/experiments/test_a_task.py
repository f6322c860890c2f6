"""A task of one's own: what it is made of, and that nothing else is to be changed for it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import fedlease
from fedlease.core.errors import FedLeaseError
from fedlease.experiments.spec import make_spec
from fedlease.tasks import TASKS, classification
from fedlease.tasks.base import Task


def test_a_task_is_one_object_and_an_entry(
    spec_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def errors(*arguments: Any) -> dict[str, float]:
        return {"errors": 1 - classification.score(*arguments)["accuracy"]}

    ours = SimpleNamespace(**{**vars(classification), "metric": "errors", "score": errors})
    monkeypatch.setitem(cast(dict[str, Task], TASKS), "mistakes", ours)
    rows = [{"mail": f"the parcel came {n} days late", "class": n % 2} for n in range(24)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = {"train": str(path), "label": "class", "task": "mistakes", "test_rows": 4}
    clients = [{"name": name, **told, "text": ["mail"]} for name in "ab"]
    run = fedlease.run(spec_of(method={"name": "fedit"}, rounds=1, clients=clients), tmp_path / "run")
    assert run.metric == "errors"
    assert 0 <= run.score <= 1
    for changes, says in (
        ({"text": ["mail"] * 3}, "text must name one or two columns"),
        ({"prompt": ["mail"]}, "prompt means nothing beside mistakes"),
        (
            {"data": "arc_easy", "train": None, "label": "label", "text": []},
            "arc_easy has prompts and answers",
        ),
    ):
        with pytest.raises(FedLeaseError, match=says):
            make_spec({"clients": [clients[0], {**clients[1], **changes}]})
