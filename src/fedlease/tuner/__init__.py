"""The PEFT tuner: config, router, layer, model, export. Importing it makes PEFT know ``FEDLEASE``."""

from fedlease.tuner.config import FedLeaseConfig
from fedlease.tuner.export import read_lora, save_lora, save_mixture
from fedlease.tuner.layer import FedLeaseLayer
from fedlease.tuner.model import FedLeaseModel
from fedlease.tuner.register import register as _register
from fedlease.tuner.router import adaptive_top_m, top_k

_register()

__all__ = [
    "FedLeaseConfig",
    "FedLeaseLayer",
    "FedLeaseModel",
    "adaptive_top_m",
    "read_lora",
    "save_lora",
    "save_mixture",
    "top_k",
]
