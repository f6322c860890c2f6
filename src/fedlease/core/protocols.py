"""The words of a federation: messages, sites, clients, and what a method is.

A method is a server-side round written top to bottom over `Clients`, plus the tasks its clients do. It is
the same object in one process and across sites: only the engine that implements `Clients` differs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

from fedlease.core.adapter import Learn, Model, Modules
from fedlease.core.weights import Weights

ClientId = str
Fact = bool | int | float | str
Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Message:
    """All that ever crosses the wire, in either direction: named tensors and a few plain facts."""

    weights: Weights = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)


class Site(Protocol):
    """One client's data and compute. Methods see nothing else of a client."""

    @property
    def num_examples(self) -> int:
        """Training rows the client holds."""

    def train(self, model: Model, learn: Learn) -> Weights:
        """Train on the client's rows; return ``model.weights`` after it: same names, same shapes.

        Tensors that ``learn`` does not name, and experts other than the assigned one, come back bit-equal.
        """

    def loss(self, model: Model) -> float:
        """Return the mean loss over the client's training rows, without training."""

    def score(self, model: Model) -> Metrics:
        """Return the task's metrics on the client's test rows."""


ClientTask = Callable[[Message, Weights, Site], tuple[Message, Weights]]
"""(what came down, what the client kept, its site) -> (what goes up, what it keeps from now on)."""


class Clients(Protocol):
    """The clients a round can reach; each engine implements it."""

    @property
    def ids(self) -> tuple[ClientId, ...]:
        """The clients that can be reached now, sorted."""

    def each(self, task: str, down: Mapping[ClientId, Message]) -> dict[ClientId, Message]:
        """Have every client named in ``down`` do a task of the method; return the answers that came.

        The answers are sorted by client. One that is missing did not answer: a method goes on with the rest.
        """


State = TypeVar("State")


class Algorithm(Protocol[State]):
    """A federated method: a frozen dataclass of its hyperparameters.

    ``kept`` is a client's private memory. It stays at the client, and enters a Message only where the
    method says so; it is empty for a client that was never reached.
    """

    def init(self, modules: Modules, seed: int) -> State:
        """Return the server's state before the first round."""

    def round(self, state: State, clients: Clients) -> State:
        """Run one communication round and return the state after it."""

    def serve(self, state: State, client: ClientId) -> Message:
        """Return what this client needs from the server to use its model now."""

    def deploy(self, down: Message, kept: Weights) -> Model:
        """Put together the model a client uses from what `serve` sent and what it kept (maybe nothing)."""

    @property
    def tasks(self) -> Mapping[str, ClientTask]:
        """The tasks `round` asks of clients, by name."""

    def main_phase(self, modules: Modules, experts: int) -> tuple[tuple[Model, Learn], ...]:
        """Return every model one client trains in a round of the main phase, for counting parameters."""

    def facts(self, state: State) -> Mapping[str, Any]:
        """Return what a record should tell of the state, as plain JSON values."""


@runtime_checkable
class Checks(Protocol):
    """A method that asks something of the federation it runs in."""

    def check(self, rounds: int, clients: Collection[ClientId]) -> None:
        """Raise `FedLeaseError` where the method cannot work with so many rounds, or with these clients."""
