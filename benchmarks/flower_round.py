"""Rounds of Flower's simulation engine with the client of `stock.py`, one at a time when asked for."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from queue import Queue
from typing import Any

import torch
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from flwr.common import Context, ndarrays_to_parameters
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.simulation import run_simulation

import stock

MOST = 1000
"""Rounds that Flower is told of: it has to be there until the last way has had its turn."""
WAIT = 1800.0
"""Seconds after which a round is given up."""


class Client(NumPyClient):
    """Trains in one round, on a model of its own or on one that its process keeps."""

    def __init__(self, folder: Path, number: int, keep: bool) -> None:
        self._folder, self._number = folder, number
        self._model = stock.kept(folder) if keep else stock.build(folder)

    def fit(self, parameters: Any, config: Any) -> Any:  # noqa: ARG002
        arrays, rows, loss = stock.train(self._model, parameters, self._folder, self._number)
        return arrays, rows, {"loss": loss}


def client_app(folder: Path, keep: bool) -> ClientApp:
    """The app that Flower runs for every message."""

    def client(context: Context) -> Any:
        torch.set_num_threads(1)
        return Client(folder, int(context.node_config["partition-id"]), keep).to_client()

    return ClientApp(client)


class InTurn(FedAvg):
    """FedAvg that waits for leave to begin a round, and tells its loss; without leave no client trains."""

    def __init__(self, go: Queue[bool], done: Queue[float], **settings: Any) -> None:
        super().__init__(fraction_evaluate=0.0, **settings)
        self._go, self._done = go, done

    def configure_fit(self, *given: Any, **named: Any) -> Any:
        return super().configure_fit(*given, **named) if self._go.get() else []

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
        found = super().aggregate_fit(server_round, results, failures)
        losses = [float(result.metrics["loss"]) for _, result in results]
        self._done.put(sum(losses) / len(losses) if losses and not failures else float("nan"))
        return found


class Simulation:
    """A simulation in a thread: call it for the next round's mean loss. One client trains at a time."""

    def __init__(self, folder: Path, first: stock.Arrays, clients: int, keep: bool) -> None:
        logging.getLogger("flwr").setLevel(logging.ERROR)
        self._go: Queue[bool] = Queue()
        self._done: Queue[float] = Queue()
        strategy = InTurn(
            self._go,
            self._done,
            min_fit_clients=clients,
            min_available_clients=clients,
            initial_parameters=ndarrays_to_parameters(first),
        )

        def server(_: Context) -> ServerAppComponents:
            return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=MOST))

        one = {"num_cpus": 1, "num_gpus": 0.0}
        init: Any = {"num_cpus": 1, "log_to_driver": False, "logging_level": logging.ERROR}
        self._thread = threading.Thread(
            target=run_simulation,
            args=(ServerApp(server_fn=server), client_app(folder, keep), clients),
            kwargs={"backend_config": {"client_resources": one, "init_args": init}},
            daemon=True,
        )
        self._thread.start()

    def __call__(self) -> float:
        self._go.put(True)
        return self._done.get(timeout=WAIT)

    def end(self) -> None:
        """Let the rounds that are left pass by, and wait for Flower to put its processes away."""
        for _ in range(MOST):
            self._go.put(False)
        self._thread.join(60)
