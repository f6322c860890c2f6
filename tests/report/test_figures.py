"""The paper's figures: what is drawn where, against numbers computed independently."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib
import numpy as np
import pytest
from made import FEDLEASE, TASKS, adapters, allocation, members, routing, run, with_labels
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.transforms import Bbox

from fedlease.core.adapter import Adapter, Model
from fedlease.core.errors import FedLeaseError
from fedlease.report.figures.fig3 import similarities
from fedlease.report.figures.registry import figures, find
from fedlease.report.records import Entry
from fedlease.tuner.export import save_lora

SMALL = {"sst2": 2, "qnli": 2}
MANY = dict.fromkeys(TASKS, 8)
LONG = {"the-regional-hospital-of-the-north": 4, "a-bank-with-many-branches": 4, "law": 8}


def drawn(name: str, entries: list[Entry]) -> Figure:
    (picture,) = find(name)
    return picture.figure(entries)


def bars(axes: Axes) -> list[tuple[float, float]]:
    """Place and height of every bar, from left to right."""
    return sorted((patch.get_x() + patch.get_width() / 2, patch.get_height()) for patch in axes.patches)


def ticks(axes: Axes, along: str = "x") -> list[str]:
    return [tick.get_text() for tick in getattr(axes, f"get_{along}ticklabels")()]


def shown(axes: Axes, along: str) -> list[Bbox]:
    """The boxes of the names along an axis that are drawn; none is smaller than 8 points."""
    axis = getattr(axes, f"{along}axis")
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    labels = [label for tick in ticks for label in (tick.label1, tick.label2)]
    labels = [label for label in labels if label.get_text() and label.get_visible() and axes.axison]
    assert all(label.get_fontsize() >= 8 for label in labels)
    return [label.get_window_extent() for label in labels]


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


def top_k(tasks: Any = TASKS, seeds: int = 1, name: str = "fedlora_moe") -> list[Entry]:
    return [
        run(f"moe{k}", tasks=tasks, method={"name": name, "top_k": k}, seed=seed)
        for k in (4, 2, 3)
        for seed in range(seeds)
    ]


def fixed(tasks: Any = TASKS) -> list[Entry]:
    return [run(f"run{k}", tasks=tasks, method={**FEDLEASE, "top_k": k}) for k in (None, 3, 1)]


def routers(tasks: Any = TASKS) -> list[Entry]:
    return [run(kind, tasks=tasks, method={**FEDLEASE, "router": kind}) for kind in ("local", "cluster")]


def labelled(tasks: Any = TASKS) -> list[Entry]:
    random = np.random.default_rng(0)
    return [
        with_labels(
            run(tasks=tasks), {c: random.multinomial(60, [0.3, 0.7]).tolist() for c in members(tasks)}
        )
    ]


def alone(folder: Path, tasks: Any = TASKS) -> list[Entry]:
    for client, weights in adapters(tasks).items():
        save_lora(Model(Adapter(2, 8.0), weights), folder / "adapters" / client, "base")
    return [run("local_only", tasks=tasks, folder=folder)]


def epochs() -> list[Entry]:
    return [
        run(row, f"E = {e}", seed=seed, shift=0.01 * e, epochs=e)
        for row in ("FedIT", "FedLEASE")
        for e in (5, 1, 2)
        for seed in (0, 1)
    ]


RUNS: dict[str, Callable[[Path, Any], list[Entry]]] = {
    "2": lambda _, tasks: [run(row, tasks=tasks) for row in ("FedIT", "FedLoRA-MoE")],
    "3": alone,
    "4": lambda _, tasks: top_k(tasks),
    "6a": lambda _, tasks: routers(tasks),
    "6b": lambda _, tasks: fixed(tasks),
    "6c": lambda _, tasks: [run("fedlease", tasks=tasks, method=FEDLEASE, routing=routing(tasks))],
    "7a": lambda _, tasks: [run("fedlease", tasks=tasks, allocation=allocation(tasks))],
    "7b": lambda _, tasks: [run("fedlease", tasks=tasks, allocation=allocation(tasks))],
    "7c": lambda _, tasks: [run("fedlease", tasks=tasks, allocation=allocation(tasks))],
    "8": lambda _, tasks: [run(f"m{i}", tasks=tasks, epochs=e) for i in range(7) for e in (1, 2)],
    "9": lambda _, tasks: labelled(tasks),
}


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


def test_figure_3_is_the_mean_cosine_over_modules() -> None:
    weights = adapters(SMALL)
    clients, names = list(weights), sorted({name[:-2] for name in weights["sst2-0"]})
    found = similarities(weights)

    def cosine(vectors: list[np.ndarray]) -> np.ndarray:
        unit = [vector / np.linalg.norm(vector) for vector in map(np.ravel, vectors)]
        return np.array([[a @ b for b in unit] for a in unit])

    def matrices(kind: str, name: str) -> list[np.ndarray]:
        return [weights[client][f"{name}.{kind}"].double().numpy() for client in clients]

    wanted: dict[str, list[np.ndarray]] = {"A": [], "B": [], "BA": [], "centered": []}
    for name in names:
        A, B = matrices("A", name), matrices("B", name)
        products = [b @ a for b, a in zip(B, A, strict=True)]
        for kind, vectors in (("A", A), ("B", B), ("BA", products)):
            wanted[kind].append(cosine(vectors))
        wanted["centered"].append(cosine([product - np.mean(products, 0) for product in products]))
    assert found.keys() == wanted.keys()
    for kind, values in wanted.items():
        np.testing.assert_allclose(found[kind], np.mean(values, 0), atol=1e-12)


def test_figure_3_draws_four_maps_group_by_group(tmp_path: Path) -> None:
    tasks = {"b": 2, "a": 2}  # in the order of the spec, not of the alphabet
    figure = drawn("3", alone(tmp_path, tasks))
    panels = figure.axes[:4]
    titles = [axes.get_title() for axes in panels]
    assert titles == [
        "cosine of A",
        "cosine of B",
        "cosine of B A",
        "cosine of B A without the clients' mean",
    ]
    assert ticks(panels[2]) == ticks(panels[2], "y") == ["b-0", "b-1", "a-0", "a-1"]
    found = similarities(adapters(tasks))
    order = [list(adapters(tasks)).index(client) for client in ("b-0", "b-1", "a-0", "a-1")]
    for axes, values in zip(panels, found.values(), strict=True):
        shown = np.asarray(axes.images[0].get_array())
        np.testing.assert_allclose(shown, values[np.ix_(order, order)], atol=1e-6)
    assert panels[1].texts[1].get_text() == f"{found['B'][2, 3]:.2f}"


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


def test_figure_6c_is_the_mean_over_the_modules_of_a_layer() -> None:
    told = routing(SMALL, layers=3)
    figure = drawn(
        "6c", [run("fedlease", tasks=SMALL, method=FEDLEASE, routing=told), run("fedit", tasks=SMALL)]
    )
    axes, scale = figure.axes
    path = "bert.encoder.layer.{}.attention.self.{}"
    wanted = [
        [
            mean(told[client][path.format(layer, kind)]["experts"] for kind in ("query", "value"))
            for client in members(SMALL)
        ]
        for layer in range(3)
    ]
    np.testing.assert_allclose(np.asarray(axes.images[0].get_array()), wanted)
    assert axes.images[0].get_clim() == (1, 4)
    assert ticks(axes) == list(members(SMALL))
    assert ticks(axes, "y") == ["0", "1", "2"]
    assert scale.get_ylabel() == "mean number, of 4 experts"


def test_figure_6c_of_several_runs_is_that_of_the_adaptive_one() -> None:
    kinds = [{"top_k": 2}, {"router": "local"}, {}]
    entries = [
        run(f"run{i}", tasks=SMALL, method={**FEDLEASE, **kind}, routing=routing(SMALL, seed=i))
        for i, kind in enumerate(kinds)
    ]
    shown = drawn("6c", entries).axes[0].images[0].get_array()
    np.testing.assert_array_equal(shown, drawn("6c", entries[2:]).axes[0].images[0].get_array())


def test_figure_7_shows_the_allocation() -> None:
    told = allocation()
    entries = [run("fedlease", allocation=told)]
    (axes,) = drawn("7a", entries).axes
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[int(k), s] for k, s in told["scores"].items()])
    assert axes.collections[0].get_offsets()[0][0] == told["num_experts"] == 4
    heat = drawn("7b", entries).axes[0]
    order = [told["clients"].index(name) for name in ticks(heat, "y")]
    np.testing.assert_allclose(heat.images[0].get_array(), np.array(told["distances"])[np.ix_(order, order)])
    tree = drawn("7c", entries).axes[0]
    assert ticks(tree, "y") == ticks(heat, "y")
    heights = sorted(segment[1][0] for segment in tree.collections[0].get_segments())
    np.testing.assert_allclose(heights, sorted(row[2] for row in told["linkage"]))


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


def test_figure_9_stacks_the_labels_of_each_client() -> None:
    (entry,) = labelled(SMALL)
    figure = drawn("9", [entry, entry._replace(row="another method")])
    first, second = figure.axes
    assert ticks(first) == ["sst2-0", "sst2-1"]
    assert [text.get_text() for text in second.get_legend().get_texts()] == ["entailment", "not_entailment"]
    counts = [entry.record["clients"][c]["label_counts"]["train"] for c in ("sst2-0", "sst2-1")]
    found = [(patch.get_y(), patch.get_height()) for patch in first.patches]
    assert found == [
        (0, counts[0][0]),
        (0, counts[1][0]),
        (counts[0][0], counts[0][1]),
        (counts[1][0], counts[1][1]),
    ]


def test_figure_9_with_many_labels_is_a_map() -> None:
    entry = run(tasks={"topics": 12})
    for facts in entry.record["clients"].values():
        facts["labels"] = [f"topic {i}" for i in range(10)]
    counts = {client: list(range(i, i + 10)) for i, client in enumerate(members({"topics": 12}))}
    axes = drawn("9", [with_labels(entry, counts)]).axes[0]
    assert ticks(axes)[:3] == ["topics-0", "topics-1", "topics-2"]  # not topics-10
    np.testing.assert_array_equal(axes.images[0].get_array(), np.array(list(counts.values())).T)


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


def test_matplotlibs_settings_are_left_alone() -> None:
    def settings() -> dict[str, Any]:
        return {key: value for key, value in matplotlib.rcParams.items() if key != "backend"}

    before = settings()
    drawn("2", [run()])
    assert settings() == before
