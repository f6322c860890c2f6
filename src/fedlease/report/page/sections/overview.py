"""What ran: a card a run with its main numbers, and what was asked for, run beside run."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from fedlease.report.page.markup import Html, tag
from fedlease.report.page.parts import NONE, Column, both, counted, grid, listed, table
from fedlease.report.page.registry import Section
from fedlease.report.page.sections.time import duration
from fedlease.report.page.shown import Report, Shown, key
from fedlease.report.records import groups
from fedlease.report.summary import human, total_bytes, total_seconds


def make(report: Report) -> Html:
    """Cards and the table of settings."""
    cards, facts = [], []
    for run in report.runs:
        with run.reading():
            cards.append(_card(run))
            facts.append(_facts(run))
    names = dict.fromkeys(name for of in facts for name in of)
    rows = [[name, *(of.get(name, NONE) for of in facts)] for name in names]
    columns = [Column("", number=False), *(Column(run.name, number=False) for run in report.runs)]
    asked = table("What was asked for, and where it ran", columns, rows)
    return tag("div", *cards, asked, class_="flow") if report.alone else both(grid(*cards), asked)


def _card(run: Shown) -> Html:
    record, last = run.record, run.last
    facts: list[str] = [
        f"{counted(len(record['clients']), 'client')} in {counted(len(groups(record)), 'group')}"
    ]
    if last is not None:
        low, high = min(last.scores.values()), max(last.scores.values())
        facts.append(f"clients from {low:.1f} to {high:.1f} %")
    if "allocation" in record:
        facts.append(counted(record["allocation"]["num_experts"], "expert"))
    up, down = (sum(total_bytes(record, way).values()) for way in ("up", "down"))
    facts += [f"{human(up)} up, {human(down)} down", duration(total_seconds(record, "total"))]
    value = NONE if last is None else f"{fmean(last.scores.values()):.1f} %"
    what = "no client is scored yet" if last is None else f"mean {run.metric}, round {last.round}"
    status = tag("span", run.progress, class_="status" if run.complete else "status open")
    return tag(
        "article",
        tag("h3", key(run), run.name),
        status,
        tag("p", tag("strong", value), tag("span", what), class_="figure"),
        listed(facts, "plain"),
        class_="card",
    )


def _facts(run: Shown) -> dict[str, str]:
    record = run.record
    spec, plan = record["spec"], record.get("plan", {})
    told: dict[str, Any] = {
        "method": spec["method"]["name"],
        "its settings": _settings(spec["method"], ("name",)),
        "model": spec.get("model", {}).get("name"),
        "training": _settings(spec.get("training", {})),
        "scored on": _scored_on(spec),
        "clients": "; ".join(_group(name, members, record) for name, members in groups(record).items()),
        "parameters trained": _parameters(record),
        "seed": record["seed"],
        "computed in": f"{plan['precision']}, {plan['attention']} attention" if plan else None,
        "on": ", ".join([plan["device"], counted(plan["threads"], "thread")]) if plan else None,
        "machine": ", ".join(str(value) for value in record.get("machine", {}).values()),
        "versions": ", ".join(f"{name} {value}" for name, value in record.get("versions", {}).items()),
        "commit": (record.get("commit") or "")[:12],
        "folder": str(run.entry.folder),
    }
    return {name: str(value) for name, value in told.items() if value not in (None, "")}


def _settings(values: dict[str, Any], without: tuple[str, ...] = ()) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in values.items() if name not in without)


def _value(value: Any) -> str:
    return {None: "none", True: "yes", False: "no"}.get(value, str(value)) if _plain(value) else str(value)


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _scored_on(spec: dict[str, Any]) -> str:
    held_out = spec.get("data", {}).get("held_out")
    every = spec.get("score_every", 1)
    rows = "rows held out of the training rows" if held_out else "test rows"
    return rows if every == 1 else f"{rows}, every {every} rounds"


def _group(name: str, members: list[str], record: Any) -> str:
    rows = sum(record["clients"][client].get("train_rows", 0) for client in members)
    return f"{name}: {counted(len(members), 'client')}" + (f", {rows:,} training rows" if rows else "")


def _parameters(record: Any) -> str:
    told = record.get("parameters")
    if not told:
        return ""
    trained = sum(told["trained"].values())
    return f"{trained:,} a client, {100 * trained / told['base']:.4f} % of {told['base']:,}"


SECTION = Section("runs", "What ran", 10, make)
