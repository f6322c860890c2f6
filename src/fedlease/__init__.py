"""Federated LoRA fine-tuning with adaptive expert allocation and selection (FedLEASE).

::

    import fedlease

    run = fedlease.run("spec.toml", out="runs/first")
    print(run.accuracy, run.allocation.labels)
    model = fedlease.load("runs/first", client="bank-0")
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

logging.getLogger(__name__).addHandler(logging.NullHandler())  # whoever wants the log says where it goes

__version__ = "0.1.0"
__all__ = ["Allocation", "FedLeaseError", "Run", "Spec", "allocate", "load", "resume", "run"]

if TYPE_CHECKING:
    from fedlease.allocation import Allocation
    from fedlease.core.errors import FedLeaseError
    from fedlease.experiments.allocate import allocate
    from fedlease.experiments.results import Run
    from fedlease.experiments.run import resume, run
    from fedlease.experiments.spec import Spec
    from fedlease.use.loading import load

_PLACES = {
    "Allocation": "fedlease.allocation",
    "FedLeaseError": "fedlease.core.errors",
    "Run": "fedlease.experiments.results",
    "Spec": "fedlease.experiments.spec",
    "allocate": "fedlease.experiments.allocate",
    "load": "fedlease.use.loading",
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


def _quiet() -> None:
    """Keep bitsandbytes and torchao, where they are installed, from telling what they lack when imported."""
    import logging

    for name in ("bitsandbytes", "torchao", "torch.utils._pytree"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.ERROR)


_quiet()
