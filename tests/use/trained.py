"""What a client's trained model says, straight from the run's last checkpoint: no adapter folder is read."""

from __future__ import annotations

import torch
from torch import Tensor

from fedlease.experiments.prepare import prepare, read_rows
from fedlease.experiments.reopen import reopen
from fedlease.experiments.results import Run
from fedlease.experiments.store import Store
from fedlease.tasks.base import Example
from fedlease.training.site import TorchSite


def deployed(run: Run, client: str) -> tuple[TorchSite, torch.nn.Module]:
    """A client's site and the network with what the method deploys there."""
    store = Store(run.folder)
    spec, places = reopen(store)
    federation = prepare(spec, places)
    algorithm = federation.algorithm
    kind = type(algorithm.init(federation.base.modules, spec.seed))
    checkpoint = store.load(kind)
    assert checkpoint is not None
    model = algorithm.deploy(algorithm.serve(checkpoint.state, client), checkpoint.kept.get(client, {}))
    site = federation.sites[client]
    return site, site.resident.put(model, site.labels).eval()


def examples_of(run: Run, client: str) -> tuple[Example, ...]:
    """The client's test rows as they stand in its data."""
    return read_rows(*reopen(Store(run.folder)))[client].test


def batch_of(site: TorchSite) -> dict[str, Tensor]:
    """The client's test rows as one batch, without labels."""
    batch = site.task.collate(site.test_rows, range(len(site.test_rows)), site.resident.base.pad_id)
    batch.pop("labels")
    return batch


@torch.no_grad()
def logits_of(run: Run, client: str) -> tuple[dict[str, Tensor], Tensor]:
    """The client's test rows and the trained model's logits of them."""
    site, network = deployed(run, client)
    batch = batch_of(site)
    return batch, network(**batch).logits
