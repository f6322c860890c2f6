"""From the clients' LoRA weights to experts: distances, one dendrogram, the number of experts."""

from fedlease.allocation.allocation import Allocation, cluster
from fedlease.allocation.deciding import MOST_SHARED, THRESHOLD
from fedlease.allocation.distances import Distance, client_distances, inner_products
from fedlease.allocation.newcomers import Centre, centres, join

__all__ = [
    "MOST_SHARED",
    "THRESHOLD",
    "Allocation",
    "Centre",
    "Distance",
    "centres",
    "client_distances",
    "cluster",
    "inner_products",
    "join",
]
