"""Which engine carries a run: what the command line takes, and what it says of the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fedlease.core.files import write_json
from fedlease.deploy import on_ray

Command = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--engine", "spark"], "there is no engine 'spark'; there are: in-process, ray"),
        (["--ray-address", "auto"], "--ray-address goes with --engine ray alone"),
        (["--engine", "in-process", "--ray-cpus", "2"], "--ray-cpus goes with --engine ray alone"),
    ],
)
def test_what_cannot_be_is_one_line(options: list[str], said: str, command: Command, tmp_path: Path) -> None:
    code, out, error = command("run", tmp_path / "none.toml", *options)
    assert (code, out, error) == (2, "", f"fedlease: {said}\n")


def test_without_ray_the_extra_is_named(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "find_spec", lambda name: None if name == "ray" else object())
    code, _, error = command("run", tmp_path / "none.toml", "--engine", "ray")
    assert (code, error) == (2, "fedlease: Ray is not installed: pip install 'fedlease[ray]'\n")


def test_resume_takes_the_engine_that_the_run_began_with(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "find_spec", lambda name: None)
    told = {"format": 1, "spec": {}, "clients": {}}
    write_json(tmp_path / "spec.json", {**told, "engine": "ray"})
    assert "fedlease[ray]" in command("resume", tmp_path)[2]
    write_json(tmp_path / "spec.json", {**told, "engine": "flower"})
    assert "the same 'fedlease deploy' goes on with it" in command("resume", tmp_path)[2]
    write_json(tmp_path / "spec.json", told)
    assert (
        "--ray-address goes with --engine ray alone" in command("resume", tmp_path, "--ray-address", "x")[2]
    )
