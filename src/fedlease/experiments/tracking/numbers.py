"""What trackers are told of a run: names and numbers, from its record.

Names are ``KIND/WHAT``, which TensorBoard and others group by: ``mean/accuracy``, ``worst/accuracy`` and
``best/accuracy`` over clients, ``accuracy/CLIENT``; ``mean/loss`` and ``loss/CLIENT`` of training;
``bytes/up`` and ``bytes/up_A`` and so on; ``seconds/train`` and so on; ``experts/number``; and at the end
``experts_used/CLIENT`` and ``router_entropy/CLIENT`` in bits, means over the modules of what the record's
``routing`` tells, with ``mean/experts_used`` and ``mean/router_entropy``. Scores are between 0 and 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from statistics import fmean
from typing import Any

Numbers = dict[str, float]


def values(entry: Mapping[str, Any]) -> Numbers:
    """The numbers of one round, from its entry in the record."""
    found: Numbers = {}
    for metric in sorted({name for scores in entry["metrics"].values() for name in scores}):
        of = {client: scores[metric] for client, scores in entry["metrics"].items() if metric in scores}
        found |= _spread(metric, of)
        found |= {f"worst/{metric}": min(of.values()), f"best/{metric}": max(of.values())}
    found |= _spread("loss", entry["loss"])
    for way, sizes in entry["bytes"].items():
        found[f"bytes/{way}"] = sum(sizes.values())
        found |= {f"bytes/{way}_{part}": size for part, size in sizes.items()}
    found |= {f"seconds/{part}": seconds for part, seconds in entry["seconds"].items()}
    found |= {f"rows/{kind}": rows for kind, rows in entry["rows"].items()}
    found["clients/left_out"] = len({one["client"] for one in entry.get("left_out", ())})
    return found


def allocated(record: Mapping[str, Any]) -> Numbers:
    """The number of experts as it is now; empty without an allocation."""
    found = record.get("allocation")
    return {} if found is None else {"experts/number": found["num_experts"]}


def routed(record: Mapping[str, Any]) -> Numbers:
    """What the routers do at the end; empty where there are none."""
    found: Numbers = {}
    for key, name in (("experts", "experts_used"), ("entropy", "router_entropy")):
        of = {
            client: fmean(module[key] for module in modules.values())
            for client, modules in record.get("routing", {}).items()
            if modules and all(key in module for module in modules.values())
        }
        found |= _spread(name, of)
    return found


def hyperparameters(resolved: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """The spec as it was resolved, flat: ``method.rank``, ``training.learning_rate``, ...; lists as JSON.

    Clients are told by number and groups, and of the plan how the model is computed.
    """
    spec = {key: value for key, value in resolved["spec"].items() if key != "clients"}
    flat = _flat({**spec, "plan": resolved["plan"]})
    groups = [entry["name"] for entry in resolved["spec"]["clients"]]
    return {**flat, "clients": len(resolved["clients"]), "groups": json.dumps(groups)}


def _spread(name: str, of: Mapping[str, float]) -> Numbers:
    """The mean over clients and the value of each; empty without any."""
    if not of:
        return {}
    return {f"mean/{name}": fmean(of.values()), **{f"{name}/{client}": value for client, value in of.items()}}


def _flat(table: Mapping[str, Any], before: str = "") -> dict[str, str | int | float | bool]:
    found: dict[str, str | int | float | bool] = {}
    for key, value in table.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            found |= _flat(value, f"{name}.")
        elif value is not None:
            found[name] = value if isinstance(value, str | int | float) else json.dumps(value)
    return found
