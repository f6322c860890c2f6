"""Copy what tables are made of out of a sweep's folder: python benchmarks/publish.py RUNS [--into results].

Of every run that is complete its ``spec.json`` and ``record.json``, without the folders of the machine it ran
on; of every sweep its manifest. `fedlease table` reads them as it reads the runs, and a sweep that finds them
in its store does not run them again: copy the folder to where the sweep is to write.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fedlease.core.files import read_json, write_json
from fedlease.experiments.jobs import DIVERGED
from fedlease.experiments.manifest import read_manifest, write_manifest

FILES = ("spec.json", "record.json", DIVERGED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--into", type=Path, default=Path("results"))
    asked = parser.parse_args()
    count = publish(asked.runs, asked.into)
    print(f"{count} runs are in {asked.into}")


def publish(runs: Path, into: Path) -> int:
    """Copy the finished runs of ``runs/store`` and the manifests beside it; return how many are there now."""
    for folder in finished(runs / "store"):
        place = into / "store" / folder.name
        place.mkdir(parents=True, exist_ok=True)
        for path in (folder / name for name in FILES if (folder / name).is_file()):
            write_json(place / path.name, published(read_json(path)))
    for folder in sorted(path.parent for path in runs.glob("*/sweep.json")):
        manifest = read_manifest(folder)
        assert manifest is not None
        write_manifest(into / folder.name, manifest)
    return sum(1 for _ in finished(into / "store"))


def finished(store: Path) -> Iterable[Path]:
    """The folders of runs that are complete, or ended because training diverged, sorted."""
    for folder in sorted(path.parent for path in store.glob("*/spec.json")):
        record = folder / "record.json"
        if (folder / DIVERGED).is_file() or (record.is_file() and read_json(record)["status"] == "complete"):
            yield folder


def published(values: dict[str, Any]) -> dict[str, Any]:
    """A record or resolved spec for others; what was asked for stays, but for the folder of the data."""
    told = {key: value if key == "spec" else without_folders(value) for key, value in values.items()}
    if "spec" in told:
        told["spec"] = {**told["spec"], "data": {**told["spec"]["data"], "root": None}}
    return told


def without_folders(value: Any) -> Any:
    """A JSON value in which absolute paths are cut to what lies below the folders of this machine.

    Rows keep the part of their path that a reader has too (``glue/sst2/train.jsonl``), all else its name.
    """
    if isinstance(value, dict):
        return {key: without_folders(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_folders(one) for one in value]
    if not isinstance(value, str) or not value.startswith(os.sep):
        return value
    return " ".join(_short(word) for word in value.split(" "))


def _short(word: str) -> str:
    if not word.startswith(os.sep):
        return word
    parts = Path(word).parts
    below = 3 if {"glue", "flan"} & set(parts[:-2]) else 1
    return "/".join(parts[-below:])


if __name__ == "__main__":
    main()
