"""The Flower ClientApp of a site. Each message starts a process that comes here."""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedlease.core.errors import FedLeaseError
from fedlease.deploy.site_config import read_site
from fedlease.deploy.worker import Worker, reason
from fedlease.engines.flower_records import failure, from_records, to_records

app = ClientApp()


@app.query("hello")
def hello(message: Message, context: Context) -> Message:
    """Say which site this is."""
    try:
        _, about = from_records(message.content)
        return Message(to_records(_worker(context).hello(about)), reply_to=message)
    except Exception as error:  # Flower would send its text, and with it maybe a row
        return Message(failure(reason(error)), reply_to=message)


@app.train("task")
def task(message: Message, context: Context) -> Message:
    """Do a task of the method."""
    try:
        down, beside = from_records(message.content)
        up, told = _worker(context).work(down, beside)
        return Message(to_records(up, told), reply_to=message)
    except Exception as error:
        return Message(failure(reason(error)), reply_to=message)


def _worker(context: Context) -> Worker:
    path = context.node_config.get("site")
    if not isinstance(path, str):
        raise FedLeaseError("this SuperNode was started without site=... in --node-config: use fedlease site")
    return Worker(read_site(Path(path)))
