"""The picture of the rounds: what is drawn where, for few and many groups, methods and rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from fedlease.core.errors import FedLeaseError
from fedlease.report import rounds_figure as module
from fedlease.report.rounds_figure import rounds_figure


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Draw records; return the figure, after it was saved."""
    figures: list[Figure] = []
    save = module.save_figure
    monkeypatch.setattr(
        module, "save_figure", lambda figure, path: (figures.append(figure), save(figure, path))
    )

    def draw(*records: dict[str, Any]) -> Figure:
        rounds_figure(records, tmp_path / "rounds.png")
        assert imread(tmp_path / "rounds.png")[..., :3].std() > 0.02
        return figures[-1]

    return draw


def grouped(record: Any, groups: int, method: str = "fedit", rounds: int = 3) -> dict[str, Any]:
    """A record whose groups have a client each, scored 0.5 in every round."""
    names = [f"group-{i}" for i in range(groups)]
    made = record(*[None] * rounds, method=method)
    made["clients"] = {name: {"group": name} for name in names}
    made["spec"] = {**made["spec"], "clients": [{"name": name} for name in names]}
    for entry in made["rounds"]:
        entry["metrics"] = {name: {"accuracy": 0.5} for name in names}
    return made


def test_curves_are_the_means_of_those_scored(record: Any, drawn: Any) -> None:
    made = record([0.5, 0.25, 1.0, 0.5], None, [None, None, 0.75, 0.25], [0.5, None, 0.0, 0.5])
    figure = drawn(made)
    panels = {axis.get_title(): axis.lines[0].get_xydata() for axis in figure.axes}
    np.testing.assert_allclose(panels["red"], [[1, 37.5], [4, 50]])
    np.testing.assert_allclose(panels["blue"], [[1, 75], [3, 50], [4, 25]])
    np.testing.assert_allclose(panels["all clients"], [[1, 56.25], [3, 50], [4, 100 / 3]])
    assert figure.get_supylabel() == "mean test accuracy (%)"


def test_the_main_metric_is_drawn_and_named(record: Any, drawn: Any) -> None:
    figure = drawn(record([0.5, 0.25, 1.0, 0.5], metric="rougeL") | {"metric": "rougeL"})
    assert figure.get_supylabel() == "mean test ROUGE-L (%)"
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xydata(), [[1, 37.5]])


@pytest.mark.parametrize(("groups", "panels"), [(1, 1), (2, 3), (5, 6), (8, 9)])
def test_every_group_has_a_panel_and_all_clients_have_one(
    record: Any, drawn: Any, groups: int, panels: int
) -> None:
    axes = drawn(grouped(record, groups)).axes
    titles = [axis.get_title() for axis in axes if axis.axison]
    assert len(titles) == panels
    assert ("all clients" in titles) == (groups > 1)


def test_the_axis_of_rounds_has_whole_numbers(record: Any, drawn: Any) -> None:
    for rounds in (1, 2, 25):
        axis = drawn(grouped(record, 1, rounds=rounds)).axes[0]
        ticks = [tick for tick in axis.get_xticks() if axis.get_xlim()[0] <= tick <= axis.get_xlim()[1]]
        assert ticks
        assert all(tick == round(tick) for tick in ticks)


def test_the_legend_of_many_methods_stays_inside(record: Any, drawn: Any) -> None:
    names = [f"method_number_{i}" for i in range(8)]
    figure = drawn(*[grouped(record, 1, name) for name in names])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == names
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert box.y1 <= figure.bbox.height
    assert figure.axes[0].get_window_extent().height > 0.35 * figure.bbox.height


def test_nothing_scored_is_said(record: Any, tmp_path: Path) -> None:
    with pytest.raises(FedLeaseError, match="no client is scored yet"):
        rounds_figure([record(None, None)], tmp_path / "rounds.png")
    assert not list(tmp_path.iterdir())
