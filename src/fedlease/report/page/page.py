"""The page: runs as one HTML file that needs nothing else, neither files nor a network."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files

from fedlease.core.errors import FedLeaseError
from fedlease.report.page.markup import Html, join, tag
from fedlease.report.page.registry import Section, sections
from fedlease.report.page.shown import DAMAGED, Report, report_of
from fedlease.report.records import Entry

START = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="generator" content="fedlease report'
)
"""How every page begins."""


def is_report(content: bytes) -> bool:
    """Whether a file is a page that `make_page` made, by its first bytes."""
    return content.startswith(START.encode())


def make_page(
    entries: Sequence[Entry], title: str = "", waiting: Sequence[str] = (), version: str = ""
) -> str:
    """Return the page of some runs; equal records give equal pages.

    Args:
        entries: the runs, at least one; those that are not complete are shown as far as they came.
        title: of the page; empty is the name of the run.
        waiting: runs of a sweep that have no record yet, to be named.
        version: of fedlease, for the foot of the page.

    Raises:
        FedLeaseError: a record that is damaged, by the run's folder.
    """
    report = report_of(entries, title, waiting)
    made = [(section, _made(section, report)) for section in sections()]
    shown = [(section, content) for section, content in made if content is not None]
    head = [
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy()),
        tag("title", f"{report.title} · fedlease report"),
        tag("style", Html(_style())),
    ]
    body = [
        tag("a", "Skip to the report", href="#main", class_="skip"),
        tag("header", tag("h1", report.title), tag("p", _lead(report)), _open_runs(report)),
        _contents([section for section, _ in shown]),
        tag("main", [_section(section, content) for section, content in shown], id="main", tabindex="-1"),
        tag("footer", tag("p", f"Made by fedlease {version} from the records of the runs named above.")),
        tag("script", Html(_script())),
    ]
    return f'{START} {escape(version)}">{join(head)}</head>\n<body>{join(body, chr(10))}</body></html>\n'


def _made(section: Section, report: Report) -> Html | None:
    try:
        return section.make(report)
    except DAMAGED as error:
        raise FedLeaseError(
            f"a record is damaged: {section.title}: {type(error).__name__} {error}"
        ) from error


def _section(section: Section, made: Html) -> Html:
    heading = f"{section.name}-heading"
    return tag(
        "section", tag("h2", section.title, id=heading), made, id=section.name, aria_labelledby=heading
    )


def _contents(shown: Sequence[Section]) -> Html:
    links = [tag("li", tag("a", section.title, href=f"#{section.name}")) for section in shown]
    return tag("nav", tag("ul", links), aria_label="Sections")


def _lead(report: Report) -> str:
    if not report.alone:
        return f"A report of {len(report.runs)} runs, side by side."
    record = report.runs[0].record
    return f"A report of one run: {record['spec']['method']['name']}, seed {record['seed']}."


def _open_runs(report: Report) -> Html | None:
    going = [f"{run.name}, {run.progress}" for run in report.runs if not run.complete]
    if not going:
        return None
    words = f"Not complete, shown as far as they came: {'; '.join(going)}."
    return tag("p", tag("strong", "Unfinished. "), words, class_="banner")


def _style() -> str:
    return files(__package__).joinpath("page.css").read_text(encoding="utf-8")


def _script() -> str:
    return files(__package__).joinpath("page.js").read_text(encoding="utf-8")


def _policy() -> str:
    """Nothing is loaded, and no script runs but the page's own, whatever a record holds."""
    digest = b64encode(sha256(_script().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"
