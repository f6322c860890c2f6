"""Federated LoRA fine-tuning with adaptive expert allocation and selection (FedLEASE).

::

    import fedlease

    run = fedlease.run("spec.toml", out="runs/first")
    print(run.accuracy, run.allocation.labels)
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

logging.getLogger(__name__).addHandler(logging.NullHandler())  # whoever wants the log says where it goes

__version__ = "0.1.0"
__all__ = ["Allocation", "FedLeaseError", "Run", "Spec", "allocate", "resume", "run"]

if TYPE_CHECKING:
    from fedlease.allocation import Allocation
    from fedlease.core.errors import FedLeaseError
    from fedlease.experiments.allocate import allocate
    from fedlease.experiments.results import Run
    from fedlease.experiments.run import resume, run
    from fedlease.experiments.spec import Spec

_PLACES = {
    "Allocation": "fedlease.allocation",
    "FedLeaseError": "fedlease.core.errors",
    "Run": "fedlease.experiments.results",
    "Spec": "fedlease.experiments.spec",
    "allocate": "fedlease.experiments.allocate",
    "resume": "fedlease.experiments.run",
    "run": "fedlease.experiments.run",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: ``import fedlease`` alone loads no torch."""
    if name not in _PLACES:
        raise AttributeError(f"module 'fedlease' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value  # over the submodule of the same name
    return value
