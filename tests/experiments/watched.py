"""Made-up runs that go on, for who watches."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from page_runs import record

from fedlease.core.files import write_json

TASKS = {"tone": 2, "answers": 2}


def save(folder: Path, tasks: dict[str, int] = TASKS, done: int = 2, of: int = 4, **facts: Any) -> Path:
    """A made-up run with so many of its rounds done, and a word of the next one."""
    method = {"name": "fedit", "rank": 2}
    made = record(tasks, done, method=method, status="complete" if done == of else "running", **facts)
    made["spec"] = {
        "name": "made",
        "seed": 0,
        "rounds": of,
        "method": method,
        "training": {"epochs": 2},
        "clients": [{"name": name, "count": count, "data": "tone"} for name, count in tasks.items()],
    }
    folder.mkdir(parents=True)
    write_json(folder / "spec.json", {key: made[key] for key in ("format", "spec", "clients")})
    if done:
        write_json(folder / "record.json", made)
    first, second = list(made["clients"])[:2]
    doing = {
        first: {"purpose": "train", "done": 500, "total": 500, "loss": 0.25},
        second: {"purpose": "train", "done": 125, "total": 500, "loss": 0.5},
    }
    beat = {
        "format": 1,
        "told": time.time(),
        "from_round": 1,
        "round": done + 1,
        "seconds": 60.0,
        "done": (done - 1) * len(made["clients"]) * 590.0 + 625,
        "trained": {"rows": 4000, "seconds": 50.0},
        "now": second,
        "clients": doing,
        "why": None,
    }
    if done < of:
        write_json(folder / "progress.json", beat)
    return folder
