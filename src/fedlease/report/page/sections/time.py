"""Where the time went."""

from __future__ import annotations

from collections.abc import Sequence

from fedlease.report.page.charts.bars import Bar, patches, stacked
from fedlease.report.page.markup import Child, Html
from fedlease.report.page.parts import NONE, Column, both, figure, paragraph, table
from fedlease.report.page.registry import Section
from fedlease.report.page.shown import Report, Shown, key
from fedlease.report.summary import total_seconds

KINDS = {"train": "training", "score": "scoring", "other": "the rest"}


def make(report: Report) -> Html:
    """Bars of the three kinds of time, and the table with what the record tells beside them."""
    bars = []
    for run in report.runs:
        with run.reading():
            values = [total_seconds(run.record, kind) for kind in KINDS]
            bars.append(
                Bar(
                    "time" if report.alone else run.name, values, duration(total_seconds(run.record, "total"))
                )
            )
    names = list(KINDS.values())
    said = "; ".join(f"{bar.name} {_kinds(bar.values)}" for bar in bars)
    chart = stacked(bars, names, f"Time by what was done: {said}.", duration)
    heads = (
        *names,
        "in all",
        "setting up",
        "rows trained on",
        "trained rows a second",
        "spared by earlier runs",
    )
    rows = [_row(run) for run in report.runs]
    note = (
        "The rest is what federation costs: exchange, averaging, allocation, checkpoints. Spared is the time "
        "of trainings that another run of the same sweep had done and this one read."
    )
    return both(
        figure("Time of the whole run", chart, patches(names)),
        table(
            "Time by what was done", [Column("run", number=False), *(Column(head) for head in heads)], rows
        ),
        paragraph(note),
    )


def _kinds(values: Sequence[float]) -> str:
    pairs = zip(KINDS.values(), values, strict=True)
    return ", ".join(f"{kind} {duration(seconds)}" for kind, seconds in pairs)


def _row(run: Shown) -> list[Child]:
    record = run.record
    total = total_seconds(record, "total")
    kinds = [_share(total_seconds(record, kind), total) for kind in KINDS]
    setup = sum(float(session.get("setup_seconds", 0.0)) for session in record.get("sessions", ()))
    reused = total_seconds(record, "reused")
    rows = sum(entry.get("rows", {}).get("train", 0) for entry in record["rounds"])
    spent = total_seconds(record, "train") + reused
    rate = f"{rows / spent:.0f}" if spent > 0 else NONE
    last = duration(reused) if reused else NONE
    return [[key(run), run.name], *kinds, duration(total), duration(setup), f"{rows:,}", rate, last]


def _share(seconds: float, total: float) -> str:
    return f"{duration(seconds)} ({100 * seconds / total:.1f} %)" if total > 0 else duration(seconds)


def duration(seconds: float) -> str:
    """Such as ``4.2 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


SECTION = Section("time", "Time", 110, make)
