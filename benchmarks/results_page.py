"""Fill docs/results.md from sweeps: python benchmarks/results_page.py RUNS [--page docs/results.md].

Between ``<!-- table1 -->`` and ``<!-- end -->`` stands what `fedlease table` prints for RUNS/table1-small,
how it was run, and the paper's numbers. The words around are left as they are, and so is the place of a table
that lacks a run.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from fedlease.cli.collect import collect, title_of
from fedlease.core.files import write_bytes
from fedlease.experiments.manifest import Manifest, read_manifest
from fedlease.report.gather import is_complete
from fedlease.report.records import Record, metric_title
from fedlease.report.summary import total_seconds
from fedlease.report.table import make_table
from fedlease.report.table_formats import FORMATS
from published import PUBLISHED, SETTING, USUAL, Rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"))
    asked = parser.parse_args()
    page = asked.page.read_text()
    for name in re.findall(r"<!-- (table\d) -->", page):
        folder = asked.runs / f"{name}-small"
        manifest = read_manifest(folder)
        if manifest is None:
            continue
        done = sum(is_complete(entry) for entry in collect([folder]))
        if done < len(manifest.runs):
            print(f"{name} is left as it is: {done} of {len(manifest.runs)} runs are complete")
            continue
        content = "\n\n".join(section(name, folder, manifest))
        page = re.sub(
            rf"<!-- {name} -->.*?<!-- end -->",
            lambda _, name=name, content=content: f"<!-- {name} -->\n\n{content}\n\n<!-- end -->",
            page,
            flags=re.DOTALL,
        )
    write_bytes(asked.page, page.encode())


def section(name: str, folder: Path, manifest: Manifest) -> Iterable[str]:
    """How it was run, the learning rates, our table, the paper's."""
    entries = collect([folder])
    records = [entry.record for entry in entries]
    seeds = sorted({record["seed"] for record in records})
    yield f"`fedlease sweep {name} --seeds {len(seeds)}`, then `fedlease table runs/{name}-small`."
    yield f"{machines(records)} {spent(records)}"
    yield (
        "Learning rates: "
        + "; ".join(
            f"{key} {tuned.chosen:g} ("
            + ", ".join(
                f"{rate}: {'diverged' if score is None else f'{100 * score:.1f}'}"
                for rate, score in tuned.scores.items()
            )
            + ")"
            for key, tuned in manifest.rates.items()
        )
        + f". In brackets the mean {metric_title(records[0])} of the trials on held-out training rows."
    )
    table = make_table(entries, None, title_of([folder]))
    yield FORMATS["markdown"].write(table).strip()
    for part, columns, rows in PUBLISHED.get(name, []):
        yield f"The paper{f', {part}' if part else ''} ({SETTING.get(name, USUAL)}):"
        yield published(columns, rows)


def machines(records: Sequence[Record]) -> str:
    """On what the runs were made; of several kinds of machines, how many on each."""
    found = Counter(map(machine, records))
    if len(found) == 1:
        return f"{next(iter(found))}."
    return f"{'; '.join(f'{count} runs on {kind}' for kind, count in found.most_common())}."


def machine(record: Record) -> str:
    processor, versions = record["machine"]["processor"], record["versions"]
    plan = record["plan"]
    return (
        f"{processor}, {plan['threads']} thread(s) a process, {plan['precision']} with {plan['attention']} "
        f"attention, torch {versions['torch']}, transformers {versions['transformers']}"
    )


def spent(records: Iterable[Record]) -> str:
    each = [total_seconds(record, "total") for record in records]
    return f"{len(each)} runs took {sum(each) / 3600:.1f} hours of one process in all."


def published(columns: tuple[str, ...], rows: Rows) -> str:
    lines = [f"| method | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    lines += [f"| {row} | {' | '.join(map(str, values))} |" for row, values in rows.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
