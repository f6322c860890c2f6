"""From the clients' LoRA weights to experts: distances, one dendrogram, the number of experts."""

from fedlease.allocation.allocation import THRESHOLD, Allocation, cluster
from fedlease.allocation.distances import Distance, client_distances, inner_products

__all__ = ["THRESHOLD", "Allocation", "Distance", "client_distances", "cluster", "inner_products"]
