"""One dendrogram of the clients, every number of clusters cut from it, and the silhouette of each cut."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform
from sklearn.metrics import silhouette_score

Matrix = NDArray[np.float64]


def dendrogram(distances: Matrix) -> Matrix:
    """Return the average-linkage merges of N clients from their distances [N, N], as SciPy's [N-1, 4].

    A row is (one cluster, the other, height, clients in the new cluster); row m makes cluster N + m.
    """
    merges: Matrix = linkage(squareform(distances, checks=False), method="average")
    return merges


def cut(merges: Matrix, clusters: int) -> tuple[int, ...]:
    """Return the cluster of each of N clients after N - ``clusters`` merges: exactly that many, even at ties.

    Clusters are numbered 0, 1, ... by their first client.
    """
    clients = len(merges) + 1
    members: dict[int, list[int]] = {client: [client] for client in range(clients)}
    for step, (left, right) in enumerate(merges[: clients - clusters, :2].astype(int)):
        members[clients + step] = members.pop(left) + members.pop(right)
    labels = [0] * clients
    for number, group in enumerate(sorted(members.values(), key=min)):
        for client in group:
            labels[client] = number
    return tuple(labels)


def silhouette(distances: Matrix, labels: Sequence[int]) -> float:
    """Return S(k), the mean over clients of (b - a) / max(a, b), for 2 to N-1 clusters.

    a is a client's mean distance to the others of its cluster, b the least mean distance to another cluster
    (FedLEASE, section 4.1). A client alone in its cluster counts as 0, and so does one with a = b = 0.
    """
    return float(silhouette_score(distances, np.asarray(labels), metric="precomputed"))
