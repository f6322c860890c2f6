"""Predictions for rows as they come: windows of them, batched by length, given back in their order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import torch

from fedlease.core.errors import FedLeaseError
from fedlease.core.protocols import ClientId
from fedlease.tasks import classification
from fedlease.tasks.base import Encoded, Example
from fedlease.tasks.generation import Generation
from fedlease.tasks.inference import Inference
from fedlease.use.explain import experts_of
from fedlease.use.finished import Finished

WINDOW = 8
"""Batches whose rows are sorted by length together; no more rows than theirs are in memory."""


class Predictor:
    """What a client's model says of rows.

    Attributes:
        rows: predicted so far.
        cut: how many of them were longer than the run's ``model.max_length``, and were cut.

    Raises:
        FedLeaseError: what opening the client's model raises; ``explain`` for a client without a router.
    """

    def __init__(self, finished: Finished, client: ClientId, *, explain: bool = False) -> None:
        self._finished, self._explain = finished, explain
        self._labels = finished.labels(client) if client in finished.record["clients"] else ()
        model = finished.model(client)
        if explain and model.adapter.experts == 1:
            raise FedLeaseError(
                f"client {client} of {finished.run.folder} has one adapter and no router: nothing to explain"
            )
        base, batch = finished.base, finished.spec.training.score_batch_size
        self._network = finished.resident.put(model, len(self._labels)).eval()
        device = finished.resident.device
        self._inference = Inference(base.tokenizer, base.pad_id, batch, device, lambda _: None)
        self.rows = self.cut = 0

    def over(self, rows: Iterable[tuple[str, Example]]) -> Iterator[dict[str, Any]]:
        """Yield what is predicted for each row, in their order, as plain values.

        In classification ``label`` and ``probabilities`` by label; in generation ``text``; with ``explain``
        also ``experts`` by module, see `experts_of`.

        Args:
            rows: with the place each stands, for errors.

        Raises:
            FedLeaseError: a row that the task cannot encode; its place is named.
        """
        coming = iter(rows)
        while window := list(islice(coming, WINDOW * self._inference.batch_size)):
            yield from self._window(window)

    @torch.inference_mode()
    def _window(self, rows: Sequence[tuple[str, Example]]) -> list[dict[str, Any]]:
        spec, inference = self._finished.spec, self._inference
        task = spec.task
        encoded = self._encoded(rows)
        self.rows, self.cut = self.rows + len(rows), self.cut + encoded.truncated
        if isinstance(task, Generation):
            said, encoded = self._written(task, encoded)
        else:
            logits, _ = classification.predict(self._network, encoded, inference)
            said = [self._chosen(shares) for shares in torch.softmax(logits.double(), -1).tolist()]
        if self._explain:
            experts = experts_of(self._network, task, encoded, inference)
            said = [{**one, "experts": used} for one, used in zip(said, experts, strict=True)]
        return said

    def _encoded(self, rows: Sequence[tuple[str, Example]]) -> Encoded:
        spec, tokenizer = self._finished.spec, self._inference.tokenizer
        try:
            return spec.task.encode([example for _, example in rows], tokenizer, spec.model.max_length)
        except FedLeaseError as error:
            for place, example in rows:  # which one was it?
                try:
                    spec.task.encode([example], tokenizer, spec.model.max_length)
                except FedLeaseError as own:
                    raise FedLeaseError(f"{place}: {own}") from error
            raise

    def _chosen(self, shares: list[float]) -> dict[str, Any]:
        best = max(range(len(shares)), key=shares.__getitem__)
        return {
            "label": self._labels[best],
            "probabilities": dict(zip(self._labels, shares, strict=True)),
        }

    def _written(self, task: Generation, rows: Encoded) -> tuple[list[dict[str, Any]], Encoded]:
        """The texts, and the rows with what was written to them."""
        tokenizer = self._inference.tokenizer
        written = task.write(self._network, rows, self._inference, int(tokenizer.eos_token_id))
        texts = [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in written]
        whole = [
            ids[:prompt] + new for ids, prompt, new in zip(rows.input_ids, rows.labels, written, strict=True)
        ]
        return [{"text": text} for text in texts], replace(rows, input_ids=tuple(whole))
