"""Colours of the page: enough contrast in light and dark, and charts that show the numbers they are given."""

from __future__ import annotations

import re
from importlib.resources import files

import numpy as np
import pytest
from page_tree import parse

from fedlease.report.page.charts.frame import Scale, ticks
from fedlease.report.page.charts.heat import cells
from fedlease.report.page.charts.tree import together
from fedlease.report.page.markup import Html, join, tag
from fedlease.report.routing import by_layer, entropy_of_means, load, shares

CSS = files("fedlease.report.page").joinpath("page.css").read_text(encoding="utf-8")
LIGHT, DARK = re.findall(r":root \{(.*?)\}", CSS, flags=re.S)


def colors(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2, between 1 and 21."""
    found = []
    for color in (one, other):
        parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        found.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(found) + 0.05) / (min(found) + 0.05)


def test_the_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("block", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_charts_can_be_seen(block: str) -> None:
    of = colors(block)
    for ground in ("paper", "panel"):
        for text in ("ink", "quiet", "link"):
            assert contrast(of[text], of[ground]) >= 4.5, (text, ground)
        for line in (*(f"s{i}" for i in range(8)), "limit"):
            assert contrast(of[line], of[ground]) >= 3, (line, ground)
    assert contrast(of["warn"], of["warn-paper"]) >= 4.5
    for i in range(8):
        assert contrast(of["on"], of[f"s{i}"]) >= 3, f"numbers, large and bold, on s{i}"


def test_every_colour_that_is_used_is_defined_for_light_and_dark() -> None:
    used = set(re.findall(r"var\(--([\w-]+)\)", CSS)) - {"under"}
    assert used <= set(re.findall(r"--([\w-]+):", LIGHT))
    assert used <= set(re.findall(r"--([\w-]+):", DARK))


def test_markup_escapes_text_and_nothing_else() -> None:
    made = tag("p", "<b>", tag("b", "&"), None, ["a", ["'"]], class_='"', hidden=True, lang=None, x=1.26)
    assert made == '<p class="&quot;" hidden x="1.3">&lt;b&gt;<b>&amp;</b>a&#x27;</p>'
    assert join(Html("<br>")) == "<br>"
    assert tag("path", d="M0 0") == '<path d="M0 0"/>'


def test_a_scale_is_linear_and_ticks_are_inside() -> None:
    scale = Scale(2.0, 4.0, 100.0, 0.0)
    assert [scale(2.0), scale(2.5), scale(4.0)] == [100.0, 75.0, 0.0]
    assert Scale(1.0, 1.0, 0.0, 10.0)(1.0) == 0.0
    assert ticks(0.3, 6.3, 8, whole=True) == [1, 2, 3, 4, 5, 6]


def test_cells_of_a_map_cover_what_is_known() -> None:
    values = np.array([[0.0, 0.0, 1.0], [np.nan, 1.0, 0.5]])
    drawn = list(parse(cells(values, 0.0, 1.0, 5.0, 7.0, 10.0, 4.0)).all("path"))
    shapes = {
        path.attributes["fill"]: re.findall(r"M([\d.]+) ([\d.]+)h([\d.]+)v", path.attributes["d"])
        for path in drawn
    }
    assert shapes["#00224e"] == [("5", "7", "20")]  # the dark end: two neighbours in one shape
    assert shapes["#fee838"] == [("25", "7", "10"), ("15", "11", "10")]
    assert sum(float(width) for found in shapes.values() for *_, width in found) == 50  # all but the nan


def test_neighbours_are_averaged_where_there_are_too_many() -> None:
    random = np.random.default_rng(0).random((10, 10))
    found = together(random, 4)
    assert found.shape == (4, 4)
    edges = [0, 2, 5, 8, 10]  # linspace(0, 10, 5), rounded half to even
    assert found[1, 3] == pytest.approx(random[edges[1] : edges[2], edges[3] : edges[4]].mean())
    assert together(random, 10) is random


def test_entropy_of_means_shares_and_load_by_hand() -> None:
    of = {"experts": 2.0, "weights": [0.2, 0.2, 0.0, 0.4]}  # not normalised, as in Eq. 5
    np.testing.assert_allclose(shares(of), [0.25, 0.25, 0, 0.5])
    assert entropy_of_means(of) == pytest.approx(1.5)
    assert entropy_of_means({"weights": [1.0, 0.0]}) == 0.0
    other = {"experts": 1.0, "weights": [1.0, 0.0, 0.0, 0.0]}
    record = {"routing": {"a": {"layer.0.q": of, "layer.0.v": other, "head": other}, "b": {"layer.0.q": of}}}
    np.testing.assert_allclose(load(record, "a"), np.array([2.25, 0.25, 0, 0.5]) / 3)
    assert load(record, "c") is None
    layers, values = by_layer(record, ["a", "b"], lambda of: of["experts"])
    assert layers == [0, "head"]
    np.testing.assert_array_equal(values, [[1.5, 2.0], [1.0, np.nan]])
