"""The paper's figures of accuracies: bars and lines, against numbers computed independently."""

from __future__ import annotations

from statistics import mean, stdev
from typing import Any

import numpy as np
import pytest
from figure_runs import SMALL, drawn, fixed, routers, ticks
from made import members, routing, run
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedlease.report.records import Entry


def bars(axes: Axes) -> list[tuple[float, float]]:
    """Place and height of every bar, from left to right."""
    return sorted((patch.get_x() + patch.get_width() / 2, patch.get_height()) for patch in axes.patches)


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def score(entry: Entry, *clients: str) -> float:
    scores = entry.record["rounds"][-1]["metrics"]
    return 100 * mean(scores[client]["accuracy"] for client in clients or scores)


def scenarios(seeds: int = 2) -> list[Entry]:
    kinds = (("Scenario 1", SMALL), ("Scenario 2", {"sst2": 4}))
    return [
        run(row, section, tasks=tasks, seed=seed)
        for seed in range(seeds)
        for section, tasks in kinds
        for row in ("FedIT", "FedLoRA-MoE")
    ]


def epochs() -> list[Entry]:
    return [
        run(row, f"E = {e}", seed=seed, shift=0.01 * e, epochs=e)
        for row in ("FedIT", "FedLEASE")
        for e in (5, 1, 2)
        for seed in (0, 1)
    ]


def test_figure_2_has_a_panel_a_scenario() -> None:
    entries = scenarios()
    figure = drawn("2", entries)
    first, second = figure.axes
    assert [first.get_title(), second.get_title()] == ["Scenario 1", "Scenario 2"]
    assert ticks(first) == ["sst2-0", "sst2-1", "qnli-0", "qnli-1", "average"]
    assert legend(figure) == ["FedIT", "FedLoRA-MoE"]
    assert figure.get_supylabel().startswith("test accuracy (%)")
    seeds = [[entry for entry in entries if entry[:2] == (row, "Scenario 1")] for row in legend(figure)]
    wanted = []
    for clients in (["sst2-0"], ["sst2-1"], ["qnli-0"], ["qnli-1"], []):
        wanted += [mean(score(entry, *clients) for entry in runs) for runs in seeds]
    np.testing.assert_allclose([height for _, height in bars(first)], wanted)
    error = first.containers[1].lines[2][0].get_segments()[0][:, 1]  # of the first bar
    deviation = stdev(score(entry, "sst2-0") for entry in seeds[0])
    np.testing.assert_allclose(error, [wanted[0] - deviation, wanted[0] + deviation])


def test_many_clients_are_drawn_by_group() -> None:
    entries = [run(row) for row in ("FedIT", "FedLoRA-MoE")]
    (axes,) = drawn("2", entries).axes
    assert ticks(axes) == ["sst2", "qnli", "mrpc", "qqp", "average"]
    heights = [height for _, height in bars(axes)]
    sst2 = [f"sst2-{i}" for i in range(4)]
    np.testing.assert_allclose(heights[:2], [score(entry, *sst2) for entry in entries])
    np.testing.assert_allclose(heights[-2:], [score(entry) for entry in entries])


def test_figure_4_rings_the_best_k_of_each_client() -> None:
    clients = list(members(SMALL))
    given = {2: [0.9, 0.8, 0.7, 0.5], 3: [0.8, 0.9, 0.7, 0.6], 4: [0.7, 0.7, 0.6, 0.7]}
    entries = [
        run(
            f"r{k}",
            tasks=SMALL,
            method={"name": "moe", "top_k": k},
            scores=dict(zip(clients, of, strict=True)),
        )
        for k, of in given.items()
    ]
    figure = drawn("4", entries)
    (axes,) = figure.axes
    assert legend(figure) == ["k = 2", "k = 3", "k = 4", "best k"]
    for line, of in zip(axes.lines[:3], given.values(), strict=False):
        np.testing.assert_allclose(line.get_ydata(), 100 * np.array(of))
    rings = axes.collections[-1].get_offsets()
    found = sorted((round(float(x), 2), round(float(y))) for x, y in rings)
    assert found == [(-0.25, 90), (1, 90), (1.75, 70), (2, 70), (3.25, 70)]  # the third has two


@pytest.mark.parametrize(
    ("name", "make", "rows"),
    [
        ("6a", routers, ["router averaged in the cluster", "router of each client"]),
        ("6b", fixed, ["top-1", "top-3", "adaptive top-M"]),
    ],
)
def test_figures_6a_and_6b_take_their_runs_from_the_settings(name: str, make: Any, rows: list[str]) -> None:
    entries = make()
    figure = drawn(name, [*entries, run("fedit")])
    assert legend(figure) == rows
    heights = [height for _, height in bars(figure.axes[0])]
    average = heights[-len(rows) :]
    np.testing.assert_allclose(average, [score(entry) for entry in entries[::-1]])


def test_figure_8_has_a_line_a_method() -> None:
    entries = epochs()
    figure = drawn("8", entries)
    (axes,) = figure.axes
    assert axes.get_xlabel() == "local epochs E in a round"
    assert legend(figure) == ["FedIT", "FedLEASE"]
    line = axes.containers[1].lines[0]
    wanted = [
        mean(score(entry) for entry in entries if entry[:2] == ("FedLEASE", f"E = {e}")) for e in (1, 2, 5)
    ]
    np.testing.assert_allclose(line.get_xydata(), list(zip((1, 2, 5), wanted, strict=True)))


def test_figure_8_of_plain_runs_takes_the_epochs_of_their_specs() -> None:
    figure = drawn("8", [run("fedit", epochs=e, shift=e / 100) for e in (3, 1)])
    assert legend(figure) == ["fedit"]
    np.testing.assert_array_equal(figure.axes[0].containers[0].lines[0].get_xdata(), [1, 3])


def test_a_client_that_did_not_answer_is_left_out() -> None:
    scores = {"sst2-0": 0.5, "sst2-1": 0.7, "qnli-1": 0.9}
    entries = [run(f"m{k}", tasks=SMALL, method={"name": "moe", "top_k": k}, scores=scores) for k in (1, 2)]
    (axes,) = drawn("2", entries[:1]).axes
    np.testing.assert_allclose([height for _, height in bars(axes)], [50, 70, np.nan, 90, 70])
    rings = drawn("4", entries).axes[0].collections[-1].get_offsets()
    assert sorted(round(float(x)) for x, _ in rings) == [0, 0, 1, 1, 3, 3]
    told = routing(SMALL)
    del told["qnli-0"]
    shown = drawn("6c", [run("fedlease", tasks=SMALL, routing=told)]).axes[0].images[0].get_array()
    assert np.isnan(np.ma.filled(shown, np.nan)).any(axis=0).tolist() == [False, False, True, False]
