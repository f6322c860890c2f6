"""Flower's own server and Grid in one process, without sockets, and sites that upload slowly."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from flwr.app import Message
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import PullMessagesRequest, PushMessagesRequest
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.grid import HttpGrid
from flwr.superlink.grid.http_grid import remove_content_from_message
from flwr.superlink.servicer.fleet import fleet_handlers
from flwr.superlink.servicer.runtime import runtime_handlers

MEMORY = ":flwr-in-memory:"
TICK = 0.02
"""Seconds between two looks of a site."""


class SuperLink:
    """The server's state, a node for each site, and the Grid of a run."""

    def __init__(self, sites: int) -> None:
        objects = ObjectStoreFactory(MEMORY)
        self.state = LinkStateFactory(MEMORY, NoOpFederationManager(), objects).state()
        self.run = self.state.create_run(
            "fab", "1", "hash", {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
        )
        self.nodes = [
            self.state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, b"key %d" % number, 1e6)
            for number in range(sites)
        ]
        for node in self.nodes:
            self.state.activate_node(node, 1e6)
        (task,) = self.state.get_tasks(run_ids=[self.run])
        self.state.claim_task(task.task_id)
        self.state.activate_task(task.task_id)

    def grid(self) -> HttpGrid:
        """The Grid of the run's server, whose requests are answered here."""
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, self.run, 1
        grid = HttpGrid(token="none")
        task = SimpleNamespace(run_id=self.run, type=TaskType.SERVER_APP)
        named = {
            "GetNodes": runtime_handlers.get_nodes,
            "PushMessages": runtime_handlers.push_messages,
            "PullMessages": runtime_handlers.pull_messages,
            "PushObject": runtime_handlers.push_object,
            "PullObject": runtime_handlers.pull_object,
            "ConfirmMessageReceived": runtime_handlers.confirm_message_received,
        }

        def answered(handler: Callable[..., Any]) -> Callable[[Any], Any]:
            return lambda request: handler(request, self.state, task)

        grid._client = SimpleNamespace(**{name: answered(of) for name, of in named.items()})  # type: ignore
        grid._run = SimpleNamespace(run_id=self.run)  # type: ignore[assignment]
        return grid


class Site(threading.Thread):
    """Answers what it is asked; the content of an answer takes ``upload`` seconds after its head.

    Attributes:
        asked: how often it was.
    """

    def __init__(
        self, link: SuperLink, node: int, answer: Callable[[Message], Message], upload: float
    ) -> None:
        super().__init__(daemon=True)
        self._link, self._node, self._answer, self._upload = link, Node(node_id=node), answer, upload
        self._end = threading.Event()
        self.asked = 0

    def run(self) -> None:
        state = self._link.state
        while not self._end.is_set():
            came = fleet_handlers.pull_messages(
                PullMessagesRequest(node=self._node), state, state.object_store
            )
            for proto, tree in zip(came.messages_list, came.message_object_trees, strict=True):
                self.asked += 1
                self._send(self._answer(self._read(proto, tree)))
            time.sleep(TICK)

    def end(self) -> None:
        self._end.set()
        self.join()

    def _read(self, proto: Any, tree: Any) -> Message:
        contents = {}
        for one in iterate_object_tree(tree):
            while not (content := self._link.state.get_object(self._link.run, one.object_id)):
                time.sleep(TICK)
            contents[one.object_id] = content
        question = inflate_object_from_contents(tree.object_id, contents)
        assert isinstance(question, Message)
        question.metadata.__dict__["_message_id"] = proto.metadata.message_id
        return question

    def _send(self, answer: Message) -> None:
        answer.metadata.__dict__["_src_node_id"] = self._node.node_id
        answer.metadata.__dict__["_message_id"] = answer.object_id
        objects = {key: one.deflate() for key, one in get_all_nested_objects(answer).items()}
        head = message_to_proto(remove_content_from_message(answer))
        pushed = fleet_handlers.push_messages(
            PushMessagesRequest(
                node=self._node, messages_list=[head], message_object_trees=[get_object_tree(answer)]
            ),
            self._link.state,
        )
        self._end.wait(self._upload)
        for key in pushed.objects_to_push:
            request = PushObjectRequest(
                node=self._node,
                run_id=self._link.run,
                object_id=key,
                object_content=objects[key],
                session_id=pushed.session_id,
            )
            fleet_handlers.push_object(request, self._link.state)
