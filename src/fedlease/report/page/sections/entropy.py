"""How undecided routers are: the entropy of a token's weights, and of their mean over all tokens."""

from __future__ import annotations

import math

from fedlease.report.page.markup import Html
from fedlease.report.page.parts import both, paragraph
from fedlease.report.page.registry import Section
from fedlease.report.page.sections.experts import Map, layers_and_clients, routed
from fedlease.report.page.shown import Report, Shown
from fedlease.report.records import Record
from fedlease.report.routing import entropy_of_means, most_experts

TOKEN = "0 bits: every token uses one expert. The last colour: every token uses all experts alike."
MEANS = (
    "0 bits: one expert is used throughout. The last colour: over all tokens the experts are used alike, be "
    "it by every token or by different ones."
)
OLDER = "This record does not tell the entropy of single tokens: an older version wrote it."


def make(report: Report) -> Html:
    """Maps of every run with routers."""
    return routed(report, _one)


def _one(run: Shown) -> Html:
    most = math.log2(most_experts(run.record))
    ends = (0.0, most or 1.0)
    means = Map("Entropy of the mean weights", "bits:", ends, entropy_of_means)
    over_all = both(paragraph(MEANS), layers_and_clients(run, means))
    if not _of_tokens(run.record):
        return both(paragraph(OLDER, class_="note"), over_all)
    tokens = Map(
        "Entropy of a token's weights", "bits, mean over tokens:", ends, lambda of: float(of["entropy"])
    )
    return both(paragraph(TOKEN), layers_and_clients(run, tokens), over_all)


def _of_tokens(record: Record) -> bool:
    return all("entropy" in of for modules in record["routing"].values() for of in modules.values())


SECTION = Section("entropy", "Router entropy", 80, make)
