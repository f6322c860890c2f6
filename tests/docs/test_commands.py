"""Every command on every page works: run on small runs and rows, or checked where it cannot be run here."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import pytest
import typer
from pages import PAGES, ROOT, blocks, commands, inline
from typer.main import get_command

from fedlease.cli.app import app
from fedlease.experiments.presets import find
from fedlease.experiments.spec import make_spec, read_spec

Words = Sequence[str]


def parsed(program: typer.Typer, words: Words) -> click.Context:
    """Read a command as the program would, and do nothing; what is wrong with it is raised."""
    command: Any = get_command(program)
    context, rest = None, list(words)
    while hasattr(command, "resolve_command"):
        context = command.make_context(rest[0], rest[1:], parent=context)
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        rest = [name, *rest]
    return command.make_context(rest[0], rest[1:], parent=context)  # type: ignore[no-any-return]


def check_make(words: Words) -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(words[1:]) <= set(targets)


def check_pip(words: Words) -> None:
    """The extras that are named exist."""
    known = importlib.metadata.metadata("fedlease").get_all("Provides-Extra", [])
    known += re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for word in words[2:]:
        for extra in re.findall(r"^fedlease\[(.*)\]$", word):
            assert set(extra.split(",")) <= set(known)


def check_fedlease(words: Words) -> None:
    parsed(app, words)


def check_run(words: Words) -> None:
    """The specification with its changes can be."""
    given = parsed(app, words).params
    read_spec(ROOT / given["spec"], given["set_"] or ())


def check_sweep(words: Words) -> None:
    """Every preset exists and makes specifications that can be."""
    given = parsed(app, words).params
    for preset in map(find, given["names"]):
        cells = preset.cells(preset.size(given["size"]))
        assert [make_spec(cell.spec) for cell in cells]


def check_superlink(words: Words) -> None:
    from flwr.superlink.cli.flower_superlink import _parse_args_run_superlink

    _parse_args_run_superlink().parse_args([word for word in words[1:] if word != "&"])


def check_flwr(words: Words) -> None:
    from flwr.cli.app import app as flwr

    parsed(flwr, words)


def check_tensorboard(words: Words) -> None:
    board = pytest.importorskip("tensorboard.program", reason="TensorBoard is not installed").TensorBoard()
    board.configure(argv=words)
    assert board.flags.logdir


def check_serve(words: Words) -> None:
    """The command is there, and takes no options that it may not know."""
    assert (Path(sys.executable).parent / "transformers").is_file()
    assert words[1:] == ["serve", "served"]


def check_benchmark(words: Words) -> None:
    """The script exists and knows the options."""
    known = re.findall(r'add_argument\(\s*"(--[\w-]+)"', (ROOT / words[1]).read_text())
    assert {word for word in words if word.startswith("--")} <= set(known)


def check_ray(words: Words) -> None:
    scripts = pytest.importorskip("ray.scripts.scripts", reason="Ray is not installed")
    scripts.cli.commands[words[1]].make_context(words[1], list(words[2:]))


CHECKED: dict[tuple[str, ...], tuple[Callable[[Words], None], str]] = {
    ("make",): (check_make, "sets up a whole environment"),
    ("pip", "install"): (check_pip, "downloads"),
    ("fedlease", "sweep"): (check_sweep, "takes hours; test_sweep.py runs a small one"),
    ("fedlease", "deploy"): (check_run, "starts a process a site; test_trial.py runs it"),
    ("fedlease", "run", "examples/flan.toml"): (check_run, "SmolLM2; test_quantized_runs.py runs small ones"),
    ("fedlease", "run", "--engine", "ray"): (check_run, "starts a Ray; test_ray.py runs on one"),
    ("fedlease", "resume", "/shared/runs/glue"): (check_fedlease, "a run of the one before"),
    ("ray", "start"): (check_ray, "a server that stays"),
    ("export",): (lambda words: None, "sets variables for the commands after it"),
    ("flower-superlink",): (check_superlink, "a server that stays; test_trial.py starts it"),
    ("flwr",): (check_flwr, "talks to that server"),
    ("tensorboard",): (check_tensorboard, "a server that stays; test_tracking.py reads what it would show"),
    ("mkdir", "served"): (lambda words: None, "lays out what the server after it is pointed to"),
    ("ln",): (lambda words: None, "as the one before"),
    ("transformers", "serve"): (check_serve, "a server that stays; test_served.py asks it"),
    ("python", "benchmarks/flower_overhead.py"): (check_benchmark, "takes minutes"),
    ("python", "benchmarks/step.py"): (
        check_benchmark,
        "takes minutes; test_step_benchmarks.py runs a small one",
    ),
    ("python", "benchmarks/limit.py"): (check_benchmark, "as the one before"),
    ("python", "benchmarks/trainer.py"): (check_benchmark, "takes minutes"),
    ("python", "benchmarks/allocation_scale.py"): (check_benchmark, "takes minutes"),
    ("python", "benchmarks/joint.py"): (
        check_benchmark,
        "takes minutes; test_round_benchmarks.py runs a small one",
    ),
    ("python", "benchmarks/round.py"): (check_benchmark, "as the one before"),
    ("python", "benchmarks/decoding.py"): (check_benchmark, "takes a quarter of an hour"),
    ("python", "benchmarks/growth.py"): (check_benchmark, "as the one before"),
    ("python", "benchmarks/bytes.py"): (check_benchmark, "takes a minute"),
    ("python", "benchmarks/wire.py"): (check_benchmark, "takes half an hour"),
}
"""What is not run here: how it is checked instead, and why."""

INSTEAD: dict[tuple[str, ...], tuple[str, ...]] = {
    ("fedlease", "site", "--config", "site.toml"): ("--only-say",),  # else it waits for a server
}
"""Words added to commands that would not end."""

NAMES = {
    "runs/table1-small": "runs/fedlease",  # folders of a sweep
    "runs/fig6-small": "runs/fedlease",
    "8": "2",  # the rank that a mixture of two ranks is cut to
}
"""Words of the pages, and what stands for them among the small runs."""


def started(words: Words, among: Any) -> Any:
    """The key of a table that a command starts with; None where there is none."""
    return next((key for key in among if tuple(words[: len(key)]) == key), None)


def expanded(words: Words, here: Path) -> list[str]:
    """The words as a shell would hand them on."""
    found = []
    for word in words:
        paths = sorted(str(path.relative_to(here)) for path in here.glob(word)) if "*" in word else []
        found += paths or [NAMES.get(word, word)]
    return found


class Hub:
    """In the place of huggingface_hub's: takes what it is given."""

    def create_repo(self, repo: str, **_: Any) -> str:
        return f"https://hub/{repo}"

    def upload_folder(self, **_: Any) -> None:
        pass


WITH_COMMANDS = sorted({block.page for block in blocks("sh")})


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_every_command_of_a_page_works(
    page: str, command: Any, world: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    here = world(page)
    for block in blocks("sh", page):
        for words in commands(block):
            at = f"{block}: {' '.join(words)}"
            if key := started(words, CHECKED):
                CHECKED[key][0](words)
                continue
            added = INSTEAD.get(started(words, INSTEAD), ()) if "--key" not in words else ()
            asked = [*expanded(words, here), *added]
            if asked[0] == "python":
                done = subprocess.run(
                    [sys.executable, *asked[1:]], capture_output=True, text=True, check=False
                )
                assert done.returncode == 0, f"{at}: {done.stderr}"
                continue
            assert asked[0] == "fedlease", f"{at}: say in CHECKED how this is checked"
            code, shown, complaint = command(*asked[1:])
            assert code == 0, f"{at}: {complaint}"
            assert shown or "--out" in asked, at


def test_every_exception_is_one_of_a_command() -> None:
    written = [words for block in blocks("sh") for words in commands(block)]
    for table in (CHECKED, INSTEAD):
        for key in table:
            assert any(started(words, [key]) for words in written), f"no page says {' '.join(key)}"


@pytest.mark.parametrize(("page", "text"), inline())
def test_a_command_in_a_sentence_has_options_that_exist(page: str, text: str) -> None:
    words = text.split()
    known = get_command(app).commands  # type: ignore[attr-defined]
    assert words[1] in known, page
    options = {option for param in known[words[1]].params for option in (*param.opts, *param.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= options | {"--help"}, page


def test_the_pages_are_all_there() -> None:
    assert "README.md" in PAGES
    assert len(PAGES) >= 20
    assert len(WITH_COMMANDS) >= 6
