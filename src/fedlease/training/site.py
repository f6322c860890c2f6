"""One client's data and compute on a resident model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from fedlease.core.adapter import Learn, Model
from fedlease.core.errors import DivergedError
from fedlease.core.progress import Progress, Watch, unwatched
from fedlease.core.protocols import ClientId, Metrics
from fedlease.core.seeds import derive
from fedlease.core.weights import Weights, part
from fedlease.tasks.base import Encoded, Task
from fedlease.tasks.inference import Inference, Step
from fedlease.training.loop import Training, fit
from fedlease.training.resident import Resident
from fedlease.training.usage import Usage, usage

T = TypeVar("T")


@dataclass
class TorchSite:
    """A `Site` that trains with torch.

    Attributes:
        client: whose rows these are.
        resident: the base model it shares with every other client of this process.
        task: how rows become batches, a loss and metrics.
        train_rows, test_rows: the client's tokenised rows.
        labels: how many labels its task has, which picks the head; 0 for a task without labels.
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
        return self.infer(model, "loss", self.train_rows, self.task.mean_loss)

    def score(self, model: Model) -> Metrics:
        """Return the task's metrics on the test rows."""
        return self.infer(model, "score", self.test_rows, self.task.score)

    def usage(self, model: Model, rows: Encoded | None = None) -> dict[str, Usage]:
        """Return how each adapted module uses its experts on the first test rows; empty without a router.

        With ``rows`` it is on all of them.
        """
        if model.adapter.experts == 1:
            return {}
        most = None if rows is None else len(rows)

        def used(network: nn.Module, rows: Encoded, inference: Inference) -> dict[str, Usage]:
            return usage(network, self.task, rows, inference, most)

        return self.infer(model, "usage", self.test_rows if rows is None else rows, used)

    def infer(
        self, model: Model, purpose: str, rows: Encoded, ask: Callable[[nn.Module, Encoded, Inference], T]
    ) -> T:
        """Ask something of the network with an adapter on it, without gradients; return the answer."""
        resident = self.resident
        network = resident.put(model, self.labels).eval()  # adding an adapter is not for inference mode

        def told(step: Step) -> None:
            self._tell(step, purpose, 0)

        base, size = resident.base, self.settings.score_batch_size
        with torch.inference_mode():
            return ask(network, rows, Inference(base.tokenizer, base.pad_id, size, resident.device, told))

    def _tell(self, step: Step, purpose: str, round: int) -> None:
        self.watch(
            Progress(self.client, round, purpose, step.rows, step.done, step.total, step.loss, step.seconds)
        )
