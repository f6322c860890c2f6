"""A client's model as a folder for other programs: PEFT with fedlease, or stock PEFT alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from safetensors.torch import save

from fedlease.core.adapter import Model
from fedlease.core.errors import FedLeaseError
from fedlease.core.files import write_bytes, write_json
from fedlease.core.protocols import ClientId
from fedlease.core.weights import select
from fedlease.report.records import scored_rows
from fedlease.training.models import known_as
from fedlease.training.site import TorchSite
from fedlease.use.card import Subject, card
from fedlease.use.finished import Finished
from fedlease.use.fold import expected, fold
from fedlease.use.loading import write
from fedlease.use.nearest import nearest
from fedlease.use.parts import expert
from fedlease.use.words import Holds, code, what

FORMS = ("fedlease", "experts", "lora")
FITS: Mapping[str, Callable[[TorchSite, Model], Model]] = {"tokens": nearest, "mean": expected}
"""How one LoRA of full rank stands for a mixture."""
RANK = 16
"""Of the one LoRA that stands for a mixture, unless another is asked for."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: where.
        form: one of `FORMS`.
        rank: of each LoRA in it; for ``fedlease`` of each expert.
        metric: the name of the main score.
        trained, exported: all scores on the rows the client is scored on, of the model as it was trained and
            of what was written; empty where both are the same function, so that nothing was to be measured.
        lost: for a folded LoRA, the share of the fitted update's norm that its rank cuts off.
        rows: what those rows are.
    """

    folder: Path
    form: str
    rank: int
    metric: str
    trained: Mapping[str, float]
    exported: Mapping[str, float]
    lost: float = 0.0
    rows: str = "test rows"

    @property
    def sentence(self) -> str:
        """What the form keeps of the main score."""
        if not self.exported:
            return "Nothing is lost: it is what the client uses, in another form."
        before, after = self.trained[self.metric], self.exported[self.metric]
        share = f", {100 * after / before:.1f} % of it" if before else ""
        return (
            f"{self.metric} on the client's {self.rows}: {100 * before:.1f} % with the model as trained, "
            f"{100 * after:.1f} % with this one LoRA of rank {self.rank}{share}. "
            f"Its rank cuts off {100 * self.lost:.2f} % of the fitted update's norm."
        )


def export(
    finished: Finished,
    client: ClientId,
    form: str,
    out: Path,
    *,
    rank: int | None = None,
    fit: str = "tokens",
    base: str | None = None,
) -> Exported:
    """Write a client's model in one of three forms, with a model card.

    - ``fedlease``: the mixture, for ``PeftModel.from_pretrained`` after ``import fedlease.tuner``.
    - ``experts``: ``expert-0`` ..., stock LoRA folders, and the router in ``router.safetensors``.
    - ``lora``: one stock LoRA. An adapter of one expert as it is, unless a smaller rank is asked for; of a
      mixture the `nearest` over the client's training tokens, or the `expected` one, folded to the rank, and
      measured on the client's test rows.

    Heads and all that the base's checkpoint lacks go with each adapter, as PEFT's ``modules_to_save``.

    Args:
        finished: the run.
        client: whose model.
        form: one of `FORMS`.
        out: a new folder; it appears when it is whole.
        rank: of the one LoRA; `RANK` for a mixture.
        fit: ``"tokens"`` or ``"mean"``, how the one LoRA stands for a mixture.
        base: what the folder calls its base model; by default its id on the hub, or where it lies.

    Raises:
        FedLeaseError: ``out`` is taken; the form does not exist or does not fit; the client's rows are needed
            and not there.
    """
    if form not in FORMS:
        raise FedLeaseError(f"there is no form {form!r}; there are: {', '.join(FORMS)}")
    if rank is not None and (form != "lora" or rank < 1):
        raise FedLeaseError(f"rank is {rank}: it is of the form lora, and at least 1")
    if fit not in FITS:
        raise FedLeaseError(f"there is no fit {fit!r}; there are: {', '.join(FITS)}")
    if out.exists():
        raise FedLeaseError(f"{out} is there already: choose another --out")
    model, name = finished.model(client), base or base_name(finished)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        done = _written(finished, client, model, (form, rank, fit), partial, name)
        done = replace(done, folder=out)
        holds = Holds(form, model.adapter, done.rank, bool(done.exported))
        labels = len(finished.labels(client))
        told = Subject(client, name, what(holds), code(holds, labels), done.sentence)
        write_bytes(partial / "README.md", card(finished, told).encode())
        partial.rename(out)
    except OSError as error:
        raise FedLeaseError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return done


def base_name(finished: Finished) -> str:
    """What others know a run's base model as: its id on the hub; a folder's path where it has none."""
    known = known_as(finished.spec.model.name)
    return known.hub if known else finished.places.model


def _written(
    finished: Finished,
    client: ClientId,
    model: Model,
    asked: tuple[str, int | None, str],
    folder: Path,
    name: str,
) -> Exported:
    (form, rank, fit), metric, adapter = asked, finished.run.metric, model.adapter
    if form == "experts":
        for index in range(adapter.experts):
            write(finished, client, expert(model, index), folder / f"expert-{index}", name)
        if adapter.experts > 1:
            write_bytes(folder / "router.safetensors", save(dict(select(model.weights, ("router",)))))
            rule = ("experts", "assigned", "top_k", "normalize")
            write_json(folder / "router.json", {key: asdict(adapter)[key] for key in rule})
        return Exported(folder, form, adapter.rank, metric, {}, {})
    if form == "fedlease" or (adapter.experts == 1 and (rank is None or rank >= adapter.rank)):
        write(finished, client, model, folder, name)
        return Exported(folder, form, adapter.rank, metric, {}, {})
    site = finished.site(client)
    folded = fold(FITS[fit](site, model), RANK if rank is None else rank)
    write(finished, client, folded.model, folder, name)
    return Exported(
        folder,
        form,
        folded.model.adapter.rank,
        metric,
        site.score(model),
        site.score(folded.model),
        folded.lost,
        scored_rows(finished.record),
    )
