"""Sites of a tiny model over a fake Grid, with the real apps and disks of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flwr.app import Context, Message, RecordDict
from grid import Clock, FakeGrid, Node, mail

import fedlease
from fedlease.deploy.client_app import app
from fedlease.deploy.server import serve
from fedlease.experiments.spec import read_spec

CLIENTS = ("answers-0", "answers-1", "tone-0", "tone-1")


class Sites:
    """Sites in folders of their own, each behind a node that runs the real ClientApp."""

    def __init__(self, folder: Path, spec: dict[str, Any]) -> None:
        self.folder, self.grid, self.clock = folder, FakeGrid(), Clock()
        folder.mkdir(exist_ok=True)
        (folder / "spec.toml").write_text(toml(spec))
        self.asked: list[tuple[str, str]] = []
        for number, name in enumerate(CLIENTS):
            (folder / name).mkdir(exist_ok=True)
            (folder / name / "site.toml").write_text(f'name = "{name}"\nspec = "../spec.toml"\n')
            self.grid.nodes[number] = Node(self.handler(name))

    def handler(self, name: str) -> Callable[[Message], list[Message]]:
        context = Context(1, 1, {"worker": str(self.folder / name / "site.toml")}, RecordDict(), {})

        def answer(message: Message) -> list[Message]:
            self.asked.append((name, message.metadata.message_type))
            return [app(message, context)]

        return answer

    def serve(self, out: Path) -> fedlease.Run:
        spec = read_spec(self.folder / "spec.toml")
        return serve(spec, self.folder, out, mail(self.grid, self.clock))

    def adapters(self) -> dict[str, bytes]:
        """What sites ended up with, as a run in one process names it."""
        found = {}
        for name in CLIENTS:
            (run,) = (self.folder / name / "state" / "adapters").iterdir()
            for path in sorted(run.iterdir()):
                found[f"adapters/{name}/{path.name}"] = path.read_bytes()
        return found


def toml(spec: dict[str, Any]) -> str:
    """The spec as TOML: strings and numbers are written alike in JSON."""
    lines = [
        f"{key} = {json.dumps(value)}" for key, value in spec.items() if not isinstance(value, dict | list)
    ]
    for key, table in spec.items():
        if isinstance(table, dict):
            lines += [f"[{key}]", *(f"{k} = {json.dumps(v)}" for k, v in table.items())]
    for client in spec["clients"]:
        lines += ["[[clients]]", *(f"{k} = {json.dumps(v)}" for k, v in client.items())]
    return "\n".join(lines) + "\n"


def state(run: fedlease.Run) -> bytes:
    """The method's state in the last checkpoint."""
    (last,) = (run.folder / "checkpoint").iterdir()
    return (last / "state.safetensors").read_bytes() + (last / "state.json").read_bytes()
