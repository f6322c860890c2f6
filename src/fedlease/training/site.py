"""One client's data and compute on a resident model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedlease.core.adapter import Learn, Model
from fedlease.core.errors import DivergedError
from fedlease.core.progress import Progress, Watch, unwatched
from fedlease.core.protocols import ClientId, Metrics
from fedlease.core.seeds import derive
from fedlease.core.weights import Weights, part
from fedlease.tasks.base import Encoded, Task
from fedlease.training.loop import Step, Training, fit, predict
from fedlease.training.resident import Resident
from fedlease.training.usage import Usage, usage


@dataclass
class TorchSite:
    """A `Site` that trains with torch.

    Attributes:
        client: whose rows these are.
        resident: the base model it shares with every other client of this process.
        task: how rows become batches, a loss and metrics.
        train_rows, test_rows: the client's tokenised rows.
        labels: how many labels its task has, which picks the head.
        settings: the optimiser and its schedule.
        seed: the run's seed.
        watch: told of every batch.
    """

    client: ClientId
    resident: Resident
    task: Task
    train_rows: Encoded
    test_rows: Encoded
    labels: int
    settings: Training
    seed: int
    watch: Watch = unwatched

    @property
    def num_examples(self) -> int:
        """Training rows."""
        return len(self.train_rows)

    def train(self, model: Model, learn: Learn) -> Weights:
        """Train the parts that ``learn`` names; see `fedlease.core.protocols.Site`.

        Raises:
            DivergedError: the loss or a weight is not finite; the message names the client and the round.
        """
        network = self.resident.put(model, self.labels)
        parameters = self.resident.learn(model.adapter, learn.parts)

        def told(step: Step) -> None:
            self._tell(step, learn.purpose, learn.round)

        try:
            fit(
                network,
                parameters,
                self.task,
                self.train_rows,
                self.resident.base.pad_id,
                self.settings,
                epochs=learn.epochs or self.settings.epochs,
                seed=derive(self.seed, self.client, learn.round, learn.purpose),
                watch=told,
            )
        except DivergedError as error:
            raise DivergedError(f"client {self.client}, round {learn.round}: {error}") from error
        trained = self.resident.take(model, learn.parts)
        for name, tensor in trained.items():
            if part(name) in learn.parts and not torch.isfinite(tensor).all():
                raise DivergedError(
                    f"client {self.client}, round {learn.round}: {name} became NaN or infinite in training; "
                    "lower training.learning_rate"
                )
        return trained

    def loss(self, model: Model) -> float:
        """Return the mean loss over the training rows."""
        return float(self.task.loss(*self._predict(model, self.train_rows, "loss")))

    def score(self, model: Model) -> Metrics:
        """Return the task's metrics on the test rows."""
        return self.task.metrics(*self._predict(model, self.test_rows, "score"))

    def usage(self, model: Model) -> dict[str, Usage]:
        """Return how each adapted module uses its experts on the test rows; empty without a router."""
        if model.adapter.experts == 1:
            return {}
        network, resident = self.resident.put(model, self.labels), self.resident

        def told(step: Step) -> None:
            self._tell(step, "score", 0)

        size = self.settings.score_batch_size
        return usage(network, self.task, self.test_rows, resident.base.pad_id, size, resident.device, told)

    def _predict(self, model: Model, rows: Encoded, purpose: str) -> tuple[Tensor, Tensor]:
        network = self.resident.put(model, self.labels)

        def told(step: Step) -> None:
            self._tell(step, purpose, 0)

        resident = self.resident
        size = self.settings.score_batch_size
        return predict(network, self.task, rows, resident.base.pad_id, size, resident.device, told)

    def _tell(self, step: Step, purpose: str, round: int) -> None:
        self.watch(
            Progress(self.client, round, purpose, step.rows, step.done, step.total, step.loss, step.seconds)
        )
