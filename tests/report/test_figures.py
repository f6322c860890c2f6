"""All figures of the paper: their files, their page, their names, and what gives none."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from figure_runs import RUNS, SMALL, drawn, labelled
from made import TASKS, members, run, with_labels
from matplotlib.axes import Axes
from matplotlib.image import imread
from matplotlib.transforms import Bbox

from fedlease.core.errors import FedLeaseError
from fedlease.report.figures.registry import figures, find

MANY = dict.fromkeys(TASKS, 8)
LONG = {"the-regional-hospital-of-the-north": 4, "a-bank-with-many-branches": 4, "law": 8}


def shown(axes: Axes, along: str) -> list[Bbox]:
    """The boxes of the names along an axis that are drawn; none is smaller than 8 points."""
    axis = getattr(axes, f"{along}axis")
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    labels = [label for tick in ticks for label in (tick.label1, tick.label2)]
    labels = [label for label in labels if label.get_text() and label.get_visible() and axes.axison]
    assert all(label.get_fontsize() >= 8 for label in labels)
    return [label.get_window_extent() for label in labels]


def test_every_figure_is_tested() -> None:
    assert list(figures()) == list(RUNS)


@pytest.mark.parametrize("name", list(RUNS))
def test_both_files_are_written_and_equal_records_give_equal_bytes(name: str, tmp_path: Path) -> None:
    (picture,) = find(name)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        entries = RUNS[name](tmp_path / folder, TASKS)
        png, svg = picture.write(entries, tmp_path / folder / "fig.v1")
        assert (png.name, svg.name) == ("fig.v1.png", "fig.v1.svg")
    assert imread(png)[..., :3].std() > 0.05
    assert b"<svg" in svg.read_bytes()
    assert b"<dc:date>" not in svg.read_bytes()
    for path in (png, svg):
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()


@pytest.mark.parametrize(
    "tasks", [SMALL, TASKS, MANY, LONG, {"one": 3}], ids=["4", "16", "32", "long", "alike"]
)
@pytest.mark.parametrize("name", list(RUNS))
def test_nothing_overlaps_or_is_cut(name: str, tasks: Any, tmp_path: Path) -> None:
    figure = drawn(name, RUNS[name](tmp_path, tasks))
    width, height = figure.get_size_inches()
    assert 3.2 <= width <= 7.01
    figure.draw_without_rendering()
    page = figure.bbox
    for axes in figure.axes:
        for along in "xy":
            boxes = shown(axes, along)
            for box in boxes:
                assert page.x0 - 1 <= box.x0
                assert box.x1 <= page.x1 + 1
                assert box.y0 >= page.y0 - 1
            for box, other in pairwise(boxes):
                wide = min(box.x1, other.x1) - max(box.x0, other.x0)
                high = min(box.y1, other.y1) - max(box.y0, other.y0)
                assert min(wide, high) <= 1.5, f"{along} of {axes.get_title()}"
        if axes.axison:
            assert axes.get_window_extent().height > 0.2 * height * figure.dpi / max(1, len(figure.axes) // 2)
    for found in figure.legends:
        box = found.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= page.width
        assert box.y1 <= page.height


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("2", ["2"]),
        ("fig2", ["2"]),
        ("Fig. 6A", ["6a"]),
        ("figure 8", ["8"]),
        ("6", ["6a", "6b", "6c"]),
        ("fig7", ["7a", "7b", "7c"]),
    ],
)
def test_names(name: str, names: list[str]) -> None:
    assert [picture.name for picture in find(name)] == names


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("1", "figure 1 is a drawing"),
        ("fig5", "figure 5 is a drawing"),
        ("6d", "there is no figure '6d'; there are: 2, 3, 4, 6a, 6b, 6c, 7a, 7b, 7c, 8, 9"),
        ("", "there is no figure ''"),
        ("[", "there is no figure"),
    ],
)
def test_names_that_are_none(name: str, says: str) -> None:
    with pytest.raises(FedLeaseError) as raised:
        find(name)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("3", "a run of local_only"),
        ("4", "different numbers as method.top_k"),
        ("6a", 'method.router "cluster" and with "local"'),
        ("6b", "a number as method.top_k and without one"),
        ("6c", "routing in its record"),
        ("7a", "has allocated its experts"),
        ("9", "no record tells how many rows of each label"),
    ],
)
def test_runs_that_do_not_give_a_figure_are_refused(name: str, says: str) -> None:
    with pytest.raises(FedLeaseError, match=f"figure {name}: ") as raised:
        drawn(name, [run("fedit")])
    assert says in str(raised.value)


def test_other_refusals(tmp_path: Path) -> None:
    with pytest.raises(FedLeaseError, match="none of the runs has a record yet"):
        drawn("2", [])
    with pytest.raises(FedLeaseError, match="different clients"):
        drawn("2", [run("a"), run("b", tasks=SMALL)])
    with pytest.raises(FedLeaseError, match=r"adapters.*no such file"):
        drawn("3", [run("local_only", folder=tmp_path)])
    (entry,) = labelled(SMALL)
    other = with_labels(run(tasks=SMALL), {client: [1, 2] for client in members(SMALL)})
    with pytest.raises(FedLeaseError, match="have different rows"):
        drawn("9", [entry, other])
    with pytest.raises(FedLeaseError, match="a record is not as expected: KeyError 'spec'"):
        drawn("2", [entry._replace(record={})])
    with pytest.raises(FedLeaseError, match="a record is not as expected"):
        drawn("7c", [run("fedlease", allocation={"clients": [], "labels": [], "linkage": []})])


def test_matplotlibs_settings_are_left_alone() -> None:
    def settings() -> dict[str, Any]:
        return {key: value for key, value in matplotlib.rcParams.items() if key != "backend"}

    before = settings()
    drawn("2", [run()])
    assert settings() == before
