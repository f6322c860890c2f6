"""What ran: a card a run with its main numbers, and what was asked for, run beside run."""

from __future__ import annotations

from os.path import normpath
from statistics import fmean
from typing import Any

from fedlease.report.page.markup import Html, tag
from fedlease.report.page.parts import NONE, Column, both, counted, details, grid, listed, table
from fedlease.report.page.registry import Section
from fedlease.report.page.sections.time import duration
from fedlease.report.page.shown import Report, Shown, key
from fedlease.report.records import groups, scored_rows
from fedlease.report.summary import human, total_bytes, total_seconds


def make(report: Report) -> Html:
    """Cards, what all runs have in common, and where they differ."""
    cards, facts = [], []
    for run in report.runs:
        with run.reading():
            cards.append(_card(run))
            facts.append({name: value for name, value in _facts(run).items() if value not in (None, "")})
    names = list(dict.fromkeys(name for of in facts for name in of))
    common = [name for name in names if len({of.get(name) for of in facts}) == 1]
    rows = [[name, words] for name, words in _together({name: facts[0][name] for name in common}).items()]
    heads = [Column("", number=False), Column("the run" if report.alone else "all runs", number=False)]
    asked = table("What was asked for, and where it ran", heads, rows)
    if report.alone:
        return tag("div", *cards, asked, class_="flow")
    columns = [Column("", number=False), *(Column(run.name, number=False) for run in report.runs)]
    own = [name for name in names if "." in name and not all(name in of for of in facts)]
    shown = [name for name in names if name not in common and name not in own]
    differing = [[name, *(str(of.get(name, NONE)) for of in facts)] for name in shown]
    if own:
        differing.append(["further settings", *(_further(of, own) for of in facts)])
    return both(
        grid(*cards),
        table("Where the runs differ", columns, differing),
        details("What all runs have in common", asked),
    )


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


def _facts(run: Shown) -> dict[str, Any]:
    """What was asked for by its key in the spec, and what came of it."""
    record = run.record
    spec, plan = record["spec"], record.get("plan", {})
    return {
        "method": spec["method"]["name"],
        **{f"method.{key}": _value(value) for key, value in spec["method"].items() if key != "name"},
        "model": spec.get("model", {}).get("name"),
        **{f"training.{key}": _value(value) for key, value in spec.get("training", {}).items()},
        "rounds": spec["rounds"],
        "scored on": _scored_on(spec),
        "clients": "; ".join(_group(name, members, record) for name, members in groups(record).items()),
        "parameters trained": _parameters(record),
        "seed": record["seed"],
        "computed in": f"{plan['precision']}, {plan['attention']} attention" if plan else None,
        "on": ", ".join([plan["device"], counted(plan["threads"], "thread")]) if plan else None,
        "machine": ", ".join(str(value) for value in record.get("machine", {}).values()),
        "versions": ", ".join(f"{name} {value}" for name, value in record.get("versions", {}).items()),
        "commit": (record.get("commit") or "")[:12],
        "folder": normpath(run.entry.folder),
    }


def _further(facts: dict[str, Any], names: list[str]) -> str:
    """Settings that not all methods have, in one cell."""
    return ", ".join(f"{name.partition('.')[2]} {facts[name]}" for name in names if name in facts) or NONE


def _together(facts: dict[str, Any]) -> dict[str, str]:
    """Keys of one table of the spec in one line: ``method.rank`` and ``method.alpha`` as ``method.*``."""
    found: dict[str, list[str]] = {}
    for name, value in facts.items():
        head, dot, key = name.partition(".")
        found.setdefault(f"{head}.*" if dot else name, []).append(f"{key} {value}" if dot else str(value))
    return {name: ", ".join(words) for name, words in found.items()}


def _value(value: Any) -> str:
    return {None: "none", True: "yes", False: "no"}.get(value, str(value)) if _plain(value) else str(value)


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _scored_on(spec: dict[str, Any]) -> str:
    every = spec.get("score_every", 1)
    rows = scored_rows({"spec": spec})
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
