"""Bytes by part of the adapter: up, down, and sent only to be scored."""

from __future__ import annotations

from collections.abc import Mapping

from fedlease.report.page.charts.bars import Bar, patches, stacked
from fedlease.report.page.markup import Child, Html
from fedlease.report.page.parts import NONE, Column, both, figure, paragraph, table
from fedlease.report.page.registry import Section
from fedlease.report.page.shown import Report, Shown, key
from fedlease.report.summary import human

WAYS = {"up": "up", "down": "down", "score": "down, to be scored", "saved": "not sent, for clients held it"}


def make(report: Report) -> Html:
    """Bars of what went up and down, and the table with what was sent to be scored."""
    sent = {}
    for run in report.runs:
        with run.reading():
            sent[run.name] = {way: _total(run, way) for way in WAYS}
    parts = sorted({part for ways in sent.values() for sizes in ways.values() for part in sizes})
    if not parts:
        return paragraph("Nothing crossed the wire, or the record does not tell.", class_="note")
    bars = [
        Bar(
            way if report.alone else f"{run.name} {way}",
            [sent[run.name][way].get(part, 0) for part in parts],
            human(sum(sent[run.name][way].values())),
        )
        for run in report.runs
        for way in ("up", "down")
    ]
    said = "; ".join(f"{bar.name} {bar.end}" for bar in bars)
    chart = stacked(bars, parts, f"Bytes over the whole run by part: {said}.", human)
    columns = [
        Column("run and way", number=False),
        *(Column(part) for part in parts),
        Column("in all"),
        Column("a round and client"),
    ]
    rows = [
        _row(run, way, sent[run.name][way], parts)
        for run in report.runs
        for way in WAYS
        if way != "saved" or sent[run.name][way]
    ]
    note = "A model that is sent only to be scored is counted apart: a client in use would hold it already."
    return both(
        figure("Sent over the whole run, all clients together", chart, patches(parts)),
        table("Bytes over the whole run by part of the adapter", columns, rows),
        paragraph(note),
    )


def _total(run: Shown, way: str) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for entry in run.record["rounds"]:
        for part, size in entry.get("bytes", {}).get(way, {}).items():
            sizes[part] = sizes.get(part, 0) + size
    return sizes


def _row(run: Shown, way: str, sizes: Mapping[str, int], parts: list[str]) -> list[Child]:
    exchanges = len(run.record["rounds"]) * len(run.record["clients"])
    total = sum(sizes.values())
    cells = [human(sizes[part]) if part in sizes else NONE for part in parts]
    mean = human(total / exchanges) if exchanges and total else NONE
    return [[key(run), f"{run.name}: {WAYS[way]}"], *cells, human(total), mean]


SECTION = Section("bytes", "Bytes sent", 100, make)
