"""Trackers people already have: TensorBoard, Weights & Biases, MLflow, told of runs as they go on."""

from fedlease.experiments.tracking.follow import following, remembered
from fedlease.experiments.tracking.kinds import check

__all__ = ["check", "following", "remembered"]
