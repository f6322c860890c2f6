"""Where data comes from, branch by branch; the only address asked is one on this machine."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from fedlease.core.errors import FedLeaseError
from fedlease.data import hub
from fedlease.data.hub import stay_local, unreachable
from fedlease.data.where import Location, locate


def no_probe(address: str) -> str | None:
    raise AssertionError(f"{address} was asked")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    task = tmp_path / "rows" / "glue" / "sst2"
    task.mkdir(parents=True)
    (task / "train.jsonl").touch()
    return tmp_path / "rows"


def test_the_folder_named_comes_first(folder: Path) -> None:
    found = locate(folder, {"FEDLEASE_DATA": "/nowhere"}, no_probe)
    assert found == Location("folder", folder, f"Data: the folder {folder}, named by --data.")


def test_then_the_variable(folder: Path) -> None:
    found = locate(None, {"FEDLEASE_DATA": str(folder)}, no_probe)
    assert found == Location("folder", folder, f"Data: the folder {folder}, named by FEDLEASE_DATA.")


def test_then_the_hub_when_it_answers() -> None:
    asked = []
    found = locate(None, {"FEDLEASE_DATA": ""}, lambda address: asked.append(address))  # type: ignore[func-returns-value]
    assert (found.kind, found.root, asked) == ("hub", None, ["https://huggingface.co"])
    assert "because no folder was named" in found.sentence


def test_else_generated_texts_and_why() -> None:
    found = locate(None, {"HF_ENDPOINT": "http://mirror"}, lambda address: f"{address} sleeps")
    assert (found.kind, found.root) == ("generated", None)
    assert found.sentence.endswith("and http://mirror sleeps.")


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"])
def test_offline_asks_nobody(name: str) -> None:
    found = locate(None, {name: "true"}, no_probe)
    assert found.kind == "generated"
    assert f"{name} is set" in found.sentence
    assert locate(None, {name: "0"}, lambda _: None).kind == "hub"


def test_bad_folders_name_what_named_them_and_the_layout(tmp_path: Path) -> None:
    layout = "glue/TASK/train.jsonl and glue/TASK/dev.jsonl, with sst2, qnli, mrpc, qqp for TASK"
    with pytest.raises(FedLeaseError) as caught:
        locate(tmp_path / "none", {}, no_probe)
    assert (
        str(caught.value) == f"--data: there is no folder {tmp_path / 'none'}; name one that holds {layout}"
    )
    (tmp_path / "glue").mkdir()
    with pytest.raises(FedLeaseError) as caught:
        locate(None, {"FEDLEASE_DATA": str(tmp_path)}, no_probe)
    assert (
        str(caught.value) == f"FEDLEASE_DATA: the folder {tmp_path} has no task in it; expected is {layout}"
    )


@pytest.fixture
def listener() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def address(server: socket.socket) -> str:
    return f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_hub_that_is_silent_does_not_hang(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.2)
    start = time.monotonic()
    reason = unreachable(address(listener))
    assert time.monotonic() - start < 2
    assert reason is not None
    assert address(listener) in reason


def test_a_name_that_is_looked_up_forever_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.1)

    def look_up(*_: Any, **__: Any) -> None:
        time.sleep(3)
        raise OSError("no such name")

    monkeypatch.setattr(hub.urllib.request, "urlopen", look_up)
    start = time.monotonic()
    assert unreachable("http://slow") == "http://slow does not answer within 0.1 seconds"
    assert time.monotonic() - start < 2


def test_a_hub_that_refuses_and_one_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(503 if self.path == "/down" else 404 if self.path == "/gone" else 200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = address(server.socket)
        assert unreachable(base) is None
        assert unreachable(f"{base}/gone") is None
        assert unreachable(f"{base}/down") == f"{base}/down answers with error 503"
        server.shutdown()
    assert unreachable(base) == f"{base} cannot be reached"
    assert unreachable("not an address") == "not an address cannot be reached"


@pytest.mark.parametrize(
    ("env", "answer", "offline"),
    [({}, "no name", True), ({}, None, False), ({"HF_HUB_OFFLINE": "1"}, "no name", False)],
)
def test_the_libraries_stay_local_when_the_hub_does_not_answer(
    env: dict[str, str], answer: str | None, offline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets.config
    import huggingface_hub.constants

    for module in (datasets.config, huggingface_hub.constants):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
    stay_local(env, lambda _: answer)
    assert huggingface_hub.constants.HF_HUB_OFFLINE is offline
    assert datasets.config.HF_HUB_OFFLINE is offline
