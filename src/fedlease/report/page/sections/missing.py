"""What was refused or is missing: rounds, clients, answers, rows, and what a record does not tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fedlease.report.page.markup import Html, tag
from fedlease.report.page.parts import both, counted, listed, paragraph
from fedlease.report.page.registry import Section
from fedlease.report.page.shown import Report, Shown
from fedlease.report.records import Record, metric, scored_rows
from fedlease.report.words import cut_rows, some


def make(report: Report) -> Html:
    """A list a run; runs of a sweep that have no record at the end."""
    said = report.each(_one)
    waiting = [tag("h3", "Not begun"), listed(report.waiting)] if report.waiting else None
    return both(said, waiting)


def _one(run: Shown) -> Html:
    found = [*_state(run), *_answers(run.record), *_rows(run.record), *_untold(run)]
    if not found:
        return paragraph("Nothing: every round was done, and every client answered in each.")
    return listed(found, "notes")


def _state(run: Shown) -> Iterator[str]:
    if not run.complete:
        yield f"Not complete ({run.progress}): it goes on, or was stopped. Numbers are those so far."
    sessions = run.record.get("sessions", ())
    if len(sessions) > 1:
        starts = some([str(session["from_round"]) for session in sessions[1:]])
        yield f"It was stopped and resumed {counted(len(sessions) - 1, 'time')}, at round {starts}."
    versions = {str(session.get("versions")) for session in sessions}
    if len(versions) > 1:
        yield "It was resumed with other versions of its libraries than it began with."


def _answers(record: Record) -> Iterator[str]:
    """Clients that were left out, that did not train, and that were not scored."""
    reasons: dict[str, list[str]] = {}
    untrained: dict[str, list[str]] = {}
    unscored: dict[str, list[str]] = {}
    main = metric(record)
    for entry in record["rounds"]:
        number = str(entry["round"])
        for one in entry.get("left_out", ()):
            reasons.setdefault(f"{one['client']} {one['reason']} ({one['task']})", []).append(number)
        if entry.get("loss"):
            for client in record["clients"].keys() - entry["loss"].keys():
                untrained.setdefault(client, []).append(number)
        if any(entry["metrics"].values()):
            for client, scores in ((c, entry["metrics"].get(c, {})) for c in record["clients"]):
                if main not in scores:
                    unscored.setdefault(client, []).append(number)
    yield from (f"Left out: {what}: {_rounds(rounds)}." for what, rounds in sorted(reasons.items()))
    for one in record.get("left_out", ()):
        yield f"Left out: {one['client']} {one['reason']} ({one['task']}): the end of the run."
    yield from (
        f"No training told of {client}: {_rounds(rounds)}." for client, rounds in sorted(untrained.items())
    )
    yield from (f"Not scored: {client}: {_rounds(rounds)}." for client, rounds in sorted(unscored.items()))


def _rounds(rounds: list[str]) -> str:
    return f"round{'' if len(rounds) == 1 else 's'} {some(rounds, 10)}"


def _rows(record: Record) -> Iterator[str]:
    clients: dict[str, dict[str, Any]] = record["clients"]
    shared = [client for client, facts in clients.items() if facts.get("shared_test_rows")]
    if shared:
        rows = f"Some {scored_rows(record)} are shared with other clients"
        yield f"{rows}, as the data set has too few: {some(shared)}."
    yield from cut_rows(record)


def _untold(run: Shown) -> Iterator[str]:
    record = run.record
    experts = record.get("allocation", {}).get("num_experts", 1)
    routing = record.get("routing")
    if experts > 1 and not routing:
        when = "is measured at the end of a run" if not run.complete else "is not in this record"
        yield f"What routers choose {when}: experts used, entropy and load are left out."
    silent = [client for client in record["clients"] if client not in routing] if routing else []
    if silent:
        yield f"No routing told of {some(silent)}."
    if routing and not all("entropy" in of for modules in routing.values() for of in modules.values()):
        yield "The entropy of single tokens is not in this record, which an older version wrote."
    if not record.get("parameters"):
        yield "How many parameters are trained is not in this record."


SECTION = Section("missing", "Refused or missing", 120, make)
