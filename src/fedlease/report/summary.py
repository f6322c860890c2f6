"""Tables of what runs found and cost, made from their records alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedlease.core.errors import FedLeaseError
from fedlease.report.records import (
    Record,
    Scored,
    average,
    capital,
    groups,
    label,
    metric_title,
    owners,
    scored,
    scored_rows,
)
from fedlease.report.words import cut_rows

UNITS = ("B", "kB", "MB", "GB", "TB")


def accuracy_table(records: Sequence[Record]) -> Table:
    """The main metric in percent, a run a row: mean over the clients of each group, then over all clients.

    It is that of the last scored round. Clients that did not answer there are left out of the means; a group
    of which none did is shown as ``-``.

    Args:
        records: runs with the same clients and the same metric, a method each.
    """
    first = records[0]
    lasts = [last_scored(record) for record in records]
    rounds = {last.round for last in lasts if last is not None}
    when = f"after round {max(rounds)}" if len(rounds) == 1 else "in the last scored round"
    name = capital(metric_title(first))
    title = f"{name} {when} (%)" if rounds else f"{name} (%): no round is scored yet"
    table = Table(title=title, title_justify="left")
    table.add_column("method")
    for group, clients in groups(first).items():
        table.add_column(f"{group} ({len(clients)})", justify="right")
    table.add_column("average", justify="right")
    for record, last in zip(records, lasts, strict=True):
        scores = last.scores if last is not None else {}
        of_groups = [average(scores, clients) for clients in groups(record).values()]
        said = f", round {last.round}" if last is not None and len(rounds) > 1 else ""
        table.add_row(label(record) + said, *map(_number, (*of_groups, average(scores, scores))))
    return table


def last_scored(record: Record) -> Scored | None:
    """The last scored round; None before one."""
    rounds = scored(record)
    return rounds[-1] if rounds else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def client_table(record: Record) -> Table:
    """One client a row: its rows, its expert, its last loss, its score in the last scored round."""
    table = Table(title=f"Clients of {record['spec']['name']} ({label(record)})", title_justify="left")
    rows = scored_rows(record)
    for column in ("client", "train rows", rows, "expert", "loss", f"{metric_title(record)} %"):
        table.add_column(column, justify="left" if column == "client" else "right")
    experts, last = owners(record), last_scored(record)
    scores = last.scores if last is not None else {}
    losses = record["rounds"][-1]["loss"] if record["rounds"] else {}
    for client, facts in record["clients"].items():
        table.add_row(
            client,
            str(facts["train_rows"]),
            str(facts["test_rows"]) + ("*" if facts["shared_test_rows"] else ""),
            str(experts.get(client, "-")),
            f"{losses[client]:.3f}" if client in losses else "-",
            _number(scores.get(client)),
        )
    if any(facts["shared_test_rows"] for facts in record["clients"].values()):
        table.caption = f"* some {rows} are shared with other clients: the data set has too few"
    return table


def allocation_text(record: Record) -> RenderableType | None:
    """Which clients share an expert, and why so many experts; None without an allocation."""
    allocation = record.get("allocation")
    if allocation is None:
        return None
    lines = [Text("Experts", style="bold")]
    for expert in range(allocation["num_experts"]):
        late = allocation.get("newcomers", {})
        members = [
            f"{client} (came later)" if client in late else client
            for client, own in owners(record).items()
            if own == expert
        ]
        lines.append(Text(f"  {expert}: {', '.join(members)}"))
    scores = ", ".join(f"{k}: {score:.2f}" for k, score in allocation["scores"].items())
    if scores:
        lines.append(Text(f"  silhouette by number of experts: {scores}"))
    lines.append(Text(f"  {allocation['reason']}"))
    return Group(*lines)


def cost_table(records: Sequence[Record]) -> Table:
    """Bytes up and down over the whole run, by part, and where the time went."""
    table = Table(title="Cost of the whole run", title_justify="left")
    for column in ("method", "sent up", "sent down", "time", "training", "scoring", "rest", "rows/s"):
        table.add_column(column, justify="left" if column in ("method", "sent up", "sent down") else "right")
    for record in records:
        seconds = {key: total_seconds(record, key) for key in ("total", "train", "score", "other")}
        total = max(seconds["total"], 1e-9)
        rows = sum(entry["rows"]["train"] for entry in record["rounds"])
        shares = [f"{100 * seconds[key] / total:.1f} %" for key in ("train", "score", "other")]
        rate = f"{rows / max(seconds['train'] + total_seconds(record, 'reused'), 1e-9):.0f}"
        up, down = total_bytes(record, "up"), total_bytes(record, "down")
        table.add_row(label(record), parts(up), parts(down), f"{total:.0f} s", *shares, rate)
    return table


def total_seconds(record: Record, key: str) -> float:
    """Seconds over all rounds: ``total``, ``train``, ``score``, ``other``, or ``reused`` of earlier runs."""
    return sum(float(entry["seconds"].get(key, 0.0)) for entry in record["rounds"])


def total_bytes(record: Record, direction: str) -> dict[str, int]:
    """Bytes over all rounds by part of the adapter."""
    sums: dict[str, int] = {}
    for entry in record["rounds"]:
        for part, size in entry["bytes"][direction].items():
            sums[part] = sums.get(part, 0) + size
    return sums


def parts(sizes: Mapping[str, int]) -> str:
    """``12.3 MB (A 4.1 MB, B 8.2 MB)``."""
    if not sizes:
        return "nothing"
    named = ", ".join(f"{part} {human(size)}" for part, size in sorted(sizes.items()))
    return f"{human(sum(sizes.values()))} ({named})"


def human(size: float) -> str:
    """A number of bytes with three digits and a unit of thousands."""
    unit, rounded = UNITS[0], float(f"{size:.3g}")  # rounded first: 999,700 bytes are 1 MB
    for larger in UNITS[1:]:
        if abs(rounded) < 1000:
            break
        unit, size = larger, size / 1000
        rounded = float(f"{size:.3g}")
    return f"{rounded:g} {unit}"


def run_report(record: Record) -> Group:
    """All that ``fedlease show`` prints."""
    state = f"{record['spec']['name']}: {record['status']}, {len(record['rounds'])} of "
    head = Text(f"{state}{record['spec']['rounds']} rounds, seed {record['seed']}", style="bold")
    plan = record["plan"]
    quantised = record["spec"].get("model", {}).get("quantization")
    form = f"{quantised} in {plan['precision']}" if quantised else plan["precision"]
    how = f"{form}, {plan['attention']} attention, {plan['threads']} threads on {plan['device']}"
    pieces: list[RenderableType] = [head, Text(f"{record['model']['path']} in {how} ({plan['why']})")]
    allocation = allocation_text(record)
    pieces += [client_table(record), *map(Text, cut_rows(record)), *([allocation] if allocation else [])]
    return Group(*pieces, accuracy_table([record]), cost_table([record]))


def comparison(records: Sequence[Record]) -> Group:
    """Several runs side by side: scores and costs.

    Raises:
        FedLeaseError: runs whose groups of clients differ.
    """
    for record in records[1:]:
        if groups(record) != groups(records[0]):
            names = f"{records[0]['spec']['name']} and {record['spec']['name']}"
            raise FedLeaseError(f"runs {names} have different clients: show them one at a time")
    return Group(accuracy_table(records), cost_table(records))
