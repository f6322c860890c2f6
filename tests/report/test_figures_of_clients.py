"""The paper's figures of clients: how alike they are, what they use and hold, computed independently."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import numpy as np
from figure_runs import SMALL, alone, drawn, labelled, ticks
from made import FEDLEASE, adapters, allocation, members, routing, run, with_labels

from fedlease.report.figures.fig3 import similarities


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
