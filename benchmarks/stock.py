"""A LoRA client as one writes it with transformers, PEFT and torch, for `round.py` to set beside fedlease's.

A client builds the model from its folder, with everything at its default: float32, SDPA, dropout, batches at
random and padded to their longest row. It is handed the adapter as a list of arrays, as Flower's are.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging

Arrays = list[np.ndarray[Any, Any]]
Row = dict[str, Any]


def build(folder: Path) -> Any:
    """The base model of a folder with a fresh LoRA on query and value; nothing else trains."""
    settings = json.loads((folder / "stock.json").read_text())
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    lora = LoraConfig(r=settings["rank"], lora_alpha=settings["alpha"], target_modules=["query", "value"])
    return get_peft_model(model, lora)


kept = lru_cache(maxsize=1)(build)
"""The same, built once in a process."""


def read(model: Any) -> Arrays:
    """The adapter's arrays, in the order of their names."""
    return [tensor.numpy() for _, tensor in sorted(get_peft_model_state_dict(model).items())]


def names(model: Any) -> list[str]:
    """What `read` returns, by name."""
    return sorted(get_peft_model_state_dict(model))


def train(model: Any, arrays: Arrays, folder: Path, client: int) -> tuple[Arrays, int, float]:
    """Train one round from an adapter on; return what came of it, the rows, and the mean loss."""
    settings = json.loads((folder / "stock.json").read_text())
    rows: list[Row] = json.loads((folder / f"{client}.json").read_text())
    set_peft_model_state_dict(
        model, {name: torch.from_numpy(array) for name, array in zip(names(model), arrays, strict=True)}
    )
    loader: Any = DataLoader(rows, settings["batch"], shuffle=True, collate_fn=collate)  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=settings["rate"], weight_decay=0.0
    )
    model.train()
    losses = []
    for _ in range(settings["epochs"]):
        for batch in loader:
            loss = model(**batch).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses += [float(loss.detach())] * len(batch["labels"])
    return read(model), len(rows), fmean(losses)


def collate(rows: list[Row]) -> dict[str, torch.Tensor]:
    """A batch, padded to its longest row: MiniLM pads with 0."""
    batch = {
        name: pad_sequence([torch.tensor(row[name]) for row in rows], batch_first=True)
        for name in rows[0]
        if name != "labels"
    }
    ids = [torch.ones(len(row["input_ids"]), dtype=torch.int64) for row in rows]
    batch["attention_mask"] = pad_sequence(ids, batch_first=True)
    return batch | {"labels": torch.tensor([row["labels"] for row in rows])}


def loop(folder: Path, arrays: Arrays, clients: int) -> tuple[Arrays, float]:
    """A round that builds the model for every client; the mean adapter, and the mean loss."""
    found = [train(build(folder), arrays, folder, client) for client in range(clients)]
    means = [np.mean(each, axis=0) for each in zip(*(result[0] for result in found), strict=True)]
    return means, fmean(result[2] for result in found)
