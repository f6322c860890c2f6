"""The Flower ClientApp of a site. Each message starts a process that comes here, so it only passes it on."""

from __future__ import annotations

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedlease.core.errors import FedLeaseError
from fedlease.deploy import pipe
from fedlease.engines.flower_records import FAILED, failure, pack, unpack

app = ClientApp()


@app.query("hello")
def hello(message: Message, context: Context) -> Message:
    """Say which site this is."""
    return _pass_on("hello", message, context)


@app.train("task")
def task(message: Message, context: Context) -> Message:
    """Do a task of the method."""
    return _pass_on("task", message, context)


def _pass_on(kind: str, message: Message, context: Context) -> Message:
    try:
        address = context.node_config.get("worker")
        if not isinstance(address, str):
            raise FedLeaseError("this SuperNode was not started by fedlease site")
        wired, beside = unpack(message.content)
        kind, answer, told = pipe.ask(address, kind, wired, dict(beside))
    except Exception as error:  # Flower would send its text, and with it maybe a row
        return Message(failure(f"{type(error).__name__}; the site's log says more"), reply_to=message)
    if answer is None or kind == FAILED:
        return Message(failure(str(told.get(FAILED))), reply_to=message)
    return Message(pack(answer, told), reply_to=message)
