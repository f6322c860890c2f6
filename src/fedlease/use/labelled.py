"""Labelled rows of somebody who was no client of a run, read as those of its clients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fedlease.core.errors import FedLeaseError
from fedlease.data import files
from fedlease.data.sources import Source, Table, load
from fedlease.use.finished import Finished
from fedlease.use.rows import sources


@dataclass(frozen=True)
class Columns:
    """Which columns hold what, where they are not called as a client's of the run; see `ClientSpec`."""

    text: tuple[str, ...] = ()
    label: str = "label"
    labels: tuple[str, ...] = ()
    prompt: tuple[str, ...] = ()
    answer: str | None = None
    messages: str | None = None


def read_labelled(finished: Finished, path: Path, columns: Columns | None = None) -> Table:
    """Read a file of labelled rows.

    Without ``columns`` it is read as the data of the first client whose columns it has and whose labels fit.

    Raises:
        FedLeaseError: the file cannot be read; it has the columns or labels of no client; its rows are of
            another task than the run, or have another number of labels than any client.
    """
    generates = finished.spec.clients[0].task == "generation"
    if columns is not None:
        source = Source(**vars(columns), train=str(path))
        if source.generates != generates:
            kind = "prompts and answers" if generates else "texts and labels"
            raise FedLeaseError(f"{path}: {finished.run.folder} is about {kind}: name the columns of those")
        return _fitting(finished, load(source), path)
    there = set(files.columns(path))
    known = _sources(finished)
    fitting = [source for source in known if set(source.columns) <= there]
    if not fitting:
        wanted = "; ".join(", ".join(columns) for columns in dict.fromkeys(s.columns for s in known))
        raise FedLeaseError(
            f"{path}: has the columns {', '.join(sorted(there))}, the run's clients have {wanted}: "
            + ("say with --prompt and --answer which" if generates else "say with --text and --label which")
        )
    problems = []
    for source in fitting:
        try:
            return _fitting(finished, load(replace(source, train=str(path))), path)
        except FedLeaseError as error:
            problems.append(error)
    raise problems[0]


def _sources(finished: Finished) -> list[Source]:
    """Where the rows of the run's clients come from, places left out, with the names of their labels."""
    found: dict[Source, None] = {}
    for client in finished.clients:
        for source in sources(finished, client):
            labels = () if source.generates else source.labels or finished.labels(client)
            columns = Columns(
                source.text, source.label, labels, source.prompt, source.answer, source.messages
            )
            found[Source(**vars(columns), train="rows")] = None
    return list(found)


def _fitting(finished: Finished, table: Table, path: Path) -> Table:
    counts = sorted({len(finished.labels(client)) for client in finished.clients})
    if len(table.labels) not in counts:
        known = " or ".join(map(str, counts))
        raise FedLeaseError(f"{path}: has {len(table.labels)} labels, the clients of the run have {known}")
    return table
