import json

import numpy as np
import pytest
from matplotlib.image import imread

from fedlease.core.errors import FedLeaseError
from fedlease.report import allocation_figure as module
from fedlease.report.allocation_figure import allocation_figure


def record(clients=6, experts=2, **change):
    """A record as a run keeps it: clients 0 .. of each expert merge one by one, then the experts."""
    labels = [i * experts // clients for i in range(clients)]
    distances = np.where(np.equal.outer(labels, labels), 0.4, 1.2) - 0.4 * np.eye(clients)
    linkage, roots = [], []
    for expert in range(experts):
        first, *rest = [i for i, label in enumerate(labels) if label == expert]
        for size, client in enumerate(rest, start=2):
            linkage.append([first, client, 0.4, size])
            first = clients + len(linkage) - 1
        roots.append(first)
    first, *rest = roots
    for root in rest:
        linkage.append([first, root, 1.2, 0])
        first = clients + len(linkage) - 1
    scores = {str(k): 0.6 - 0.1 * abs(k - experts) for k in range(2, min(8, clients - 1) + 1)}
    made = {
        "clients": [f"site-{i:02d}" for i in range(clients)],
        "labels": labels,
        "num_experts": experts,
        "scores": scores,
        "distances": distances.tolist(),
        "linkage": linkage,
        "distance": "product",
        "centered": True,
        "reason": f"{experts} experts",
        "threshold": 0.2,
    }
    return json.loads(json.dumps({**made, **change}))


def axes_of(figure, title):
    return next(axes for axes in figure.axes if title in axes.get_title(loc="left"))


@pytest.mark.parametrize(("clients", "experts"), [(2, 1), (3, 2), (4, 1), (16, 4), (64, 10), (120, 3)])
def test_a_picture_comes_for_every_size(tmp_path, clients, experts):
    allocation_figure(record(clients, experts), tmp_path / "allocation.png")
    picture = imread(tmp_path / "allocation.png")
    assert picture[..., :3].std() > 0.05
    assert max(picture.shape) < 3600
    assert [path.name for path in tmp_path.iterdir()] == ["allocation.png"]


def test_the_chosen_number_is_ringed_on_the_silhouettes():
    axes = axes_of(module._figure(record(9, 3)), "Silhouette")
    np.testing.assert_allclose(axes.lines[0].get_xydata()[:3], [[2, 0.5], [3, 0.6], [4, 0.5]])
    np.testing.assert_allclose(axes.collections[0].get_offsets(), [[3, 0.6]])
    assert axes.get_xlabel() == "number of clusters k"
    alone = axes_of(module._figure(record(9, 1)), "Silhouette")
    assert not alone.collections
    assert [note.get_text() for note in alone.texts] == ["weak at\nor below"]
    assert not axes_of(module._figure(record(9, 3, threshold=None)), "Silhouette").texts


def test_the_heat_map_stands_in_the_order_of_the_dendrogram():
    mixed = record(4, 2)
    mixed["labels"] = [0, 1, 0, 1]
    mixed["linkage"] = [[1, 3, 0.3, 2], [0, 2, 0.5, 2], [4, 5, 1.1, 4]]
    mixed["distances"] = [[0, 1.0, 0.5, 1.1], [1.0, 0, 1.2, 0.3], [0.5, 1.2, 0, 1.05], [1.1, 0.3, 1.05, 0]]
    figure = module._figure(mixed)
    heat = axes_of(figure, "Distances")
    assert [tick.get_text() for tick in heat.get_yticklabels()] == [
        "site-00",
        "site-02",
        "site-01",
        "site-03",
    ]
    np.testing.assert_allclose(heat.images[0].get_array()[0], [0, 0.5, 1.0, 1.1])
    assert {note.get_text() for note in heat.texts} == {"0", "1"}
    tree = axes_of(figure, "Dendrogram").collections[0]
    np.testing.assert_allclose(tree.get_segments()[0], [[0, 2], [0.3, 2], [0.3, 3], [0, 3]])
    np.testing.assert_allclose(tree.get_segments()[2][:, 1].max(), 2.5)
    assert len({tuple(color) for color in tree.get_colors()}) == 3


def test_without_distances_the_rest_is_drawn_and_that_is_said():
    figure = module._figure(record(8, 3, distances=None))
    assert axes_of(figure, "Dendrogram").collections
    assert "distances are not kept" in " ".join(
        note.get_text() for axes in figure.axes for note in axes.texts
    )
    assert not any(axes.images for axes in figure.axes)


def test_a_picture_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "allocation.png"
    allocation_figure(record(), path)
    before = path.read_bytes()
    with pytest.raises(FedLeaseError, match="not the record of an allocation"):
        allocation_figure(record(linkage=[[0, 1, 0.1, 2]]), path)
    assert path.read_bytes() == before
    allocation_figure(record(8, 3), path)
    assert path.read_bytes() != before


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(FedLeaseError, match=r"cannot write .*missing"):
        allocation_figure(record(), tmp_path / "missing" / "allocation.png")


def test_matplotlib_keeps_no_state():
    import matplotlib._pylab_helpers as helpers

    module._figure(record())
    assert not helpers.Gcf.figs
