"""The sentences below a table: what was measured, what is compared with what and how, what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from fedlease.report.gather import Part, Row, described, is_complete
from fedlease.report.records import Entry, Record, capital, held_out, score_title, scored_rows
from fedlease.report.settings import settings_of
from fedlease.report.statistics import Comparison
from fedlease.report.summary import last_scored

T_TEST = "two-sided paired t test over clients and seeds"
OPTIMISTIC = "Clients of one seed share a model, so that p over clients and seeds is optimistic."


def notes_of(
    parts: Sequence[Part],
    entries: Sequence[Entry],
    reference: str | None,
    compared: Sequence[Sequence[Comparison]],
    runners_up: Sequence[Comparison | None],
    waiting: Sequence[str] = (),
) -> tuple[str, ...]:
    """Return the sentences below a table.

    Args:
        parts: the sections with their rows.
        entries: all runs, also those left out.
        reference: the row that others are compared with, if any.
        compared: for every section its rows against the reference.
        runners_up: for every section its best row against the best of another method.
        waiting: runs without a record.
    """
    notes = [_measured(parts)]
    for part, rows, runner_up in zip(parts, compared, runners_up, strict=True):
        section = f"{part.name}: " if part.name else ""
        if reference is not None and rows:
            notes.append(f"{section}Δ and p are against {reference}: {T_TEST}; {_counts(rows)}.")
        by_seeds = [f"{c.row} {p_words(c.p_seeds)} ({c.seeds} seeds)" for c in rows if c.p_seeds is not None]
        if by_seeds:
            notes.append(f"{section}Against {reference} by the averages of the seeds: {', '.join(by_seeds)}.")
        if runner_up is not None and runner_up.difference is not None:
            notes.append(f"{section}{_best(runner_up)}")
    if any(c.p is not None for c in [*(c for rows in compared for c in rows), *runners_up] if c):
        notes.append(OPTIMISTIC)
    notes += _held_out(parts)
    for part in parts:
        notes += [*_shared(part), *_seeds_missing(part), *_unscored(part), *_rounds(part)]
        notes += [*_ways(part), *_work(part)]
    left_out = [described(entry) for entry in entries if not is_complete(entry)]
    if left_out:
        notes.append(f"Left out, not complete: {'; '.join(left_out)}.")
    if waiting:
        notes.append(f"Not run yet: {'; '.join(waiting)}.")
    return tuple(notes)


def p_words(p: float | None) -> str:
    """``p = 0.012``, ``p < 0.001``, or that it is undefined."""
    if p is None:
        return "p undefined"
    return "p < 0.001" if p < 0.0005 else f"p = {p:.3f}"


def _measured(parts: Sequence[Part]) -> str:
    records = [r for part in parts for row in part.rows.values() for r in row.records.values()]
    seeds = sorted({seed for part in parts for row in part.rows.values() for seed in row.records})
    what = f"{capital(score_title(records))} in percent after the last scored round, mean over clients"
    if len(seeds) == 1:
        return f"{what}; seed {seeds[0]}."
    listed = ", ".join(map(str, seeds))
    return f"{what}, then over seeds {listed}; ± is the sample standard deviation over seeds."


def _held_out(parts: Sequence[Part]) -> list[str]:
    """Which runs are scored on rows of another kind than the rest."""
    said, tested = [], 0
    for part in parts:
        for name, row in part.rows.items():
            seeds = [seed for seed, record in row.records.items() if held_out(record)]
            tested += len(row.records) - len(seeds)
            where = f" {part.name}" if part.name else ""
            said += [f"{name}{where} seed {seed}" for seed in seeds]
    if not said or not tested:
        return []
    return [f"Note: scored on held-out training rows, and the others on test rows: {', '.join(said)}."]


def _counts(rows: Sequence[Comparison]) -> str:
    """How many pairs and seeds, said once where it is the same for all rows."""
    counts = {(c.pairs, c.seeds) for c in rows}
    if len(counts) == 1:
        return _count(rows[0])
    return ", ".join(f"{c.row} {_count(c)}" for c in rows)


def _count(found: Comparison) -> str:
    seeds = f"{found.seeds} seed{'' if found.seeds == 1 else 's'}"
    return f"{found.pairs} pair{'' if found.pairs == 1 else 's'} of {seeds}"


def _best(found: Comparison) -> str:
    assert found.difference is not None
    points = f"{found.row} has the best average, {signed(found.difference.mean)} points to {found.against}"
    seeds = f"; by the averages of the seeds {p_words(found.p_seeds)}" if found.p_seeds is not None else ""
    return f"{points}, the best row of another method: {p_words(found.p)} ({_count(found)}){seeds}."


def signed(value: float) -> str:
    """A difference with its sign and two decimals; a rounded zero has no minus."""
    return f"{round(value, 2) + 0.0:+.2f}"


def _seeds_missing(part: Part) -> list[str]:
    every = {seed for row in part.rows.values() for seed in row.records}
    lacking = {name: sorted(every - row.records.keys()) for name, row in part.rows.items()}
    said = [f"{name} lacks {', '.join(map(str, seeds))}" for name, seeds in lacking.items() if seeds]
    if not said:
        return []
    return [f"{_start(part)}seeds missing: {'; '.join(said)}. Rows are compared over the seeds both have."]


def _shared(part: Part) -> list[str]:
    """Groups whose clients share test rows with others, in any run."""
    records = [record for row in part.rows.values() for record in row.records.values()]
    sharing = {
        client
        for record in records
        for client, facts in record["clients"].items()
        if facts.get("shared_test_rows")
    }
    counts = {name: sum(client in sharing for client in members) for name, members in part.groups.items()}
    said = [f"{name} ({count} of {len(part.groups[name])})" for name, count in counts.items() if count]
    if not said:
        return []
    rows = f"{scored_rows(records[0])} with others, so that their scores are not independent"
    return [f"{_start(part)}clients that share {rows}: {', '.join(said)}."]


def _unscored(part: Part) -> list[str]:
    """Clients that did not answer in the last scored round; means are over the others."""
    clients = {client for members in part.groups.values() for client in members}
    said = [
        f"{name} seed {seed} without {', '.join(missing)}"
        for name, row in part.rows.items()
        for seed in row.records
        if (missing := sorted(clients - row.scores.get(seed, {}).keys()))
    ]
    return [f"{_start(part)}not every client was scored: {'; '.join(said)}."] if said else []


def _rounds(part: Part) -> list[str]:
    """Which rounds the scores are of, where rows differ."""
    of_rows = {name: _last_rounds(row) for name, row in part.rows.items()}
    if len({round for found in of_rows.values() for round in found}) < 2:
        return []
    said = [f"{name} {' and '.join(map(str, found))}" for name, found in of_rows.items()]
    return [f"{_start(part)}scores are of different rounds: {', '.join(said)}."]


def _last_rounds(row: Row) -> list[int]:
    found = (last_scored(record) for record in row.records.values())
    return sorted({last.round for last in found if last is not None})


def _ways(part: Part) -> list[str]:
    """How runs were computed and carried, where it differs: on machines of several kinds, say."""
    return [
        *_differing(part, "runs are in different number formats", _format),
        *_differing(part, "base models are quantised differently", _quantised),
        *_differing(part, "messages cross in different forms", _wire),
        *_differing(part, "runs are of different versions of fedlease", _version),
    ]


def _differing(part: Part, words: str, of: Callable[[Record], str | None]) -> list[str]:
    """What runs have differently, row by row; a run of which nothing is known does not count."""
    told = {name: {of(record) for record in row.records.values()} for name, row in part.rows.items()}
    known = {name: sorted(value for value in found if value is not None) for name, found in told.items()}
    if len({value for found in known.values() for value in found}) < 2:
        return []
    said = [f"{name} {' and '.join(found)}" for name, found in known.items() if found]
    return [f"{_start(part)}{words}: {', '.join(said)}."]


def _format(record: Record) -> str | None:
    """Of runs over sites, where each computes as its machine does, nothing is known."""
    found = str(record.get("plan", {}).get("precision", "auto"))
    return None if found == "auto" else found


def _quantised(record: Record) -> str:
    found = str(settings_of(record)["model.quantization"])
    return "not at all" if found == "none" else found


def _wire(record: Record) -> str:
    return str(settings_of(record)["exchange.wire"])


def _version(record: Record) -> str | None:
    found = record.get("versions", {}).get("fedlease")
    return None if found is None else str(found)


def _work(part: Part) -> list[str]:
    """How many rows a run trained and scored, where rows of the table differ in it."""
    said = []
    for kind, words in (("train", "trained on"), ("score", "scored, or asked the loss of")):
        counts = {name: _rows(row, kind) for name, row in part.rows.items()}
        usual = Counter(counts.values()).most_common(1)[0][0] if counts else 0
        others = [f"{name} {count:,}" for name, count in counts.items() if count != usual]
        if others:
            said.append(f"{_start(part)}rows that a run {words}: {usual:,}; {', '.join(others)}.")
    return said


def _rows(row: Row, kind: str) -> int:
    """Of the first seed."""
    first = next(iter(row.records.values()))
    return sum(int(entry.get("rows", {}).get(kind, 0)) for entry in first["rounds"])


def _start(part: Part) -> str:
    return f"{part.name}: " if part.name else "Note: "
