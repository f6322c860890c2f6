"""A site at work: one question of the server, one answer. It knows nothing of Flower."""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch

from fedlease.core.errors import DivergedError, FedLeaseError
from fedlease.core.files import read_bytes, write_bytes
from fedlease.core.held import LackingError
from fedlease.core.protocols import Fact, Message
from fedlease.core.rounding import apart
from fedlease.core.wire import from_wire, to_wire
from fedlease.core.wired import Wired
from fedlease.deploy.agreement import agreement, model_files
from fedlease.deploy.finish import finished
from fedlease.deploy.memory import Memories
from fedlease.deploy.pipe import Told, answer
from fedlease.deploy.sent import note
from fedlease.deploy.site_config import SiteConfig, read_site
from fedlease.deploy.spent import Spent
from fedlease.engines.exchange import FINISH, SCORE, do_task
from fedlease.engines.flower_records import FAILED, LACKS
from fedlease.experiments.prepare import base_of, encoded, rows_hash
from fedlease.training.base import Base
from fedlease.training.resident import Resident
from fedlease.training.site import TorchSite
from fedlease.tuner.export import save_lora, save_mixture

log = logging.getLogger(__name__)

Beside = Mapping[str, Any]
"""What goes with a message and no method sees."""


@dataclass
class Worker:
    """Answers for one site. The base model stays loaded; all else it keeps is on disk, so it may be killed.

    Attributes:
        config: of the site.
    """

    config: SiteConfig
    spent: Spent = field(default_factory=Spent)
    _loaded: tuple[str, TorchSite, Base] | None = None

    def __call__(self, kind: str, wired: Wired, beside: dict[str, Any]) -> Told:
        """Answer one question, or say why not; what leaves is in the log of what was sent first."""
        task, round, told = kind, 0, dict[str, str | float]()
        try:
            if kind == "hello":
                up = self.hello(beside)
            else:
                task, came = str(beside["task"]), from_wire(wired)
                round = int(came.facts.get("round", 0))
                up, told = self.work(came, beside)
            self._note(beside, task, round, up, told)
            return kind, to_wire(up), told
        except Exception as error:  # whatever it is, only `reason` leaves the site
            return FAILED, None, {FAILED: self._failed(beside, task, round, error)}

    def hello(self, about: Beside) -> Message:
        """Say who this is and what it holds: numbers of rows and names of labels, no row.

        Raises:
            FedLeaseError: the server follows another specification, or the rows cannot be read.
        """
        self._check(about)
        held = self.config.rows()
        said: dict[str, Fact] = {
            "client": self.config.name,
            "train_rows": len(held.train),
            "test_rows": len(held.test),
            "shared_test_rows": held.shared_test,
            "labels": json.dumps(list(held.labels)),
            "rows": self._sealed(rows_hash(held)),
            "model": model_files(self.config.places().model),
        }
        return Message({}, said)

    def work(self, came: Message, beside: Beside) -> tuple[Message, dict[str, str | float]]:
        """Do a task; return what goes up, and what is reported beside it: rows, seconds and the loss.

        Where the message refers to what the site no longer holds, nothing is done but saying so.

        Raises:
            FedLeaseError: the server follows another specification, what the site kept is gone, or it cannot
                be written. Then nothing has changed.
        """
        self._check(beside)
        task, memories = str(beside["task"]), Memories.of(self.config.state, _folder(beside))
        version, wire = str(beside["kept"]), self.config.spec.exchange.wire
        kept = memories.kept.load(version)
        try:
            down, held = memories.arrived(came, version, wire)
        except LackingError:
            return Message(), {LACKS: 1}
        self.spent.clear()
        algorithm, (site, base) = self.config.spec.algorithm(), self._site(str(beside["labels"]))
        if task == FINISH:
            model = algorithm.deploy(down, apart(kept)[0])
            write = save_lora if model.adapter.experts == 1 else save_mixture
            folder = self.config.state / "adapters" / _folder(beside)
            write(model, folder, base.path, None if base.heads else "CAUSAL_LM")
            return Message({}, finished(site, model)), {}
        up, keeps = do_task(algorithm, task, down, kept, site, wire)
        if task != SCORE:
            memories.remember(beside, keeps, held)
        memories.forget(beside)
        return up, self.spent.told()

    def _check(self, about: Beside) -> None:
        if about.get("agreement") != agreement(self.config.spec):
            raise FedLeaseError(
                f"the server follows another specification than {self.config.table.spec} here: agree on one"
            )

    def _site(self, labels: str) -> tuple[TorchSite, Base]:
        """This site's rows on the base model, with the heads that the federation has."""
        if self._loaded is None or self._loaded[0] != labels:
            self._loaded = labels, *self._load(labels)
        return self._loaded[1:]

    def _load(self, labels: str) -> tuple[TorchSite, Base]:
        spec, places, held = self.config.spec, self.config.places(), self.config.rows()
        torch.set_num_threads(places.plan.threads)
        base = base_of(spec, places, [int(n) for n in json.loads(labels)])
        train, test = encoded(self.config.name, held, spec.task, base.tokenizer, spec.model.max_length)
        site = TorchSite(
            self.config.name,
            Resident(base),
            spec.task,
            train,
            test,
            len(held.labels),
            spec.training.on(places.plan),
            spec.seed,
            self.spent.step,
        )
        return site, base

    def _failed(self, beside: Beside, task: str, round: int, error: Exception) -> str:
        """What the server is told of an error; where the log cannot be written that alone, as any error."""
        why = reason(error)
        try:
            self._note(beside, task, round, None, {FAILED: why})
        except FedLeaseError as unwritten:
            return reason(unwritten)
        return why

    def _note(self, beside: Beside, task: str, round: int, up: Message | None, told: Beside) -> None:
        """Add the line of an answer to the log of what was sent."""
        note(self.config.state / "sent.jsonl", str(beside.get("run", "")), task, round, up, told)

    def _sealed(self, digest: str) -> str:
        """A hash that tells the server whether rows have changed, and nobody else which they may be."""
        path = self.config.state / "seal"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, secrets.token_bytes(32))
        return blake2b(digest.encode(), key=read_bytes(path), digest_size=8).hexdigest()


def reason(error: Exception) -> str:
    """What the server is told of an error: no other text, in which a row may be; the site logs it all."""
    log.error("the task failed", exc_info=error)
    if isinstance(error, DivergedError):
        return str(error)
    return f"{type(error).__name__}; the site's log says more"


def _folder(beside: Beside) -> str:
    """The name of the run as that of a folder; it comes from outside."""
    name = str(beside["run"])
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise FedLeaseError(f"the server calls its run {name!r}, which is no name of one")
    return name


def main() -> None:
    """Work for a site until ended: ``python -m fedlease.deploy.worker SITE.toml ADDRESS``."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    path, address = sys.argv[1:]
    answer(address, Worker(read_site(Path(path))))


if __name__ == "__main__":
    main()
