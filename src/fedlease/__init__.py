"""Federated LoRA fine-tuning with adaptive expert allocation and selection (FedLEASE)."""

__version__ = "0.1.0"
