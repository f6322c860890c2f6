"""From the clients' LoRA weights to experts: distances, one dendrogram, the number of experts."""

from fedlease.allocation.allocating import MOST_EXACT, cluster
from fedlease.allocation.allocation import Allocation
from fedlease.allocation.deciding import MOST_SHARED, THRESHOLD
from fedlease.allocation.distances import client_distances, inner_products
from fedlease.allocation.newcomers import Centre, centres, join
from fedlease.allocation.sketches import SIZE, Sketch
from fedlease.allocation.updates import Distance

__all__ = [
    "MOST_EXACT",
    "MOST_SHARED",
    "SIZE",
    "THRESHOLD",
    "Allocation",
    "Centre",
    "Distance",
    "Sketch",
    "centres",
    "client_distances",
    "cluster",
    "inner_products",
    "join",
]
