"""`fedlease watch` on made-up folders, and on a run in another process."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made import TASKS as GLUE
from rich.console import Console
from runs import begin
from watched import TASKS, save

import fedlease
from fedlease.cli.watch_clients import NAME, short
from fedlease.cli.watch_pages import page_of
from fedlease.core.files import read_json, write_json
from fedlease.experiments.lock import lock
from fedlease.experiments.watching import Watched


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Path]:
    """A run of which this process holds the lock."""
    folder = save(tmp_path / "run")
    with lock(folder):
        yield folder


def drawn(folder: Path, width: int, height: int | None) -> list[str]:
    page, console = page_of(folder), Console(width=width, color_system=None, file=io.StringIO(), record=True)
    page.look()
    console.print(page.view(height))
    return console.export_text().splitlines()


def test_a_run_that_goes_on_is_shown_once(command: Any, running: Path) -> None:
    code, shown, complaint = command("watch", running, "--once")
    assert (code, complaint) == (0, "")
    assert "\x1b" not in shown
    for words in (
        "made: fedit, 4 clients, seed 0",
        "round 3 of 4",
        "answers-1: train, 125 of 500 rows, loss 0.500",
        "80 rows/s",
        "train done",
        "train 25%",
    ):
        assert words in shown


def test_share_and_time_left_are_those_of_this_process(running: Path) -> None:
    """By hand: 4 clients train on 500 rows and score 200 a round, at 0.45: 590 each; a round is a quarter."""
    seen = Watched(running).look()
    assert seen.work == pytest.approx(4 * 4 * 590)
    share = 2 / 4 + 625 / (4 * 4 * 590)
    assert seen.share == pytest.approx(share)
    assert seen.left == pytest.approx(60 * (1 - share) / (share - 1 / 4))  # this process began after round 1
    assert seen.speed == 80.0


def test_means_worst_and_best_are_those_of_the_record(running: Path) -> None:
    rounds = read_json(running / "record.json")["rounds"]
    lines = drawn(running, 100, None)
    for entry in rounds:
        scores = {client: 100 * of["accuracy"] for client, of in entry["metrics"].items()}
        (line,) = [line for line in lines if line.split()[:1] == [str(entry["round"])]]
        found = line.split()
        assert found[1] == f"{sum(scores.values()) / 4:.1f}"
        worst, best = min(scores, key=scores.__getitem__), max(scores, key=scores.__getitem__)
        assert found[2:6] == [f"{scores[worst]:.1f}", worst, f"{scores[best]:.1f}", best]
        assert found[6] == f"{sum(entry['loss'].values()) / 4:.3f}"


@pytest.mark.parametrize(("width", "height"), [(80, 23), (80, 40), (120, 29), (120, 60)])
@pytest.mark.parametrize("tasks", [TASKS, GLUE, {f"a-task-with-a-long-name-{i}": 8 for i in range(8)}])
def test_a_window_holds_the_whole_view(
    width: int, height: int, tasks: dict[str, int], tmp_path: Path
) -> None:
    folder = save(tmp_path / "run", tasks, 12, 20)
    made = read_json(folder / "record.json")
    left = {"client": next(iter(made["clients"])), "task": "train", "reason": "sent NaN"}
    made["rounds"][-1]["left_out"] = [left] * 2
    made["left_out"] = [{**left, "task": "finish"}]
    write_json(folder / "record.json", made)
    with lock(folder):
        lines = drawn(folder, width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert any("Left out (the last of 3) in the end: " in line for line in lines)
    shown = "\n".join(lines)
    by_client = all(client in shown or short(client, NAME) in shown for client in made["clients"])
    assert by_client or all(f"{group} (" in shown for group in tasks)


def test_without_a_terminal_rounds_are_lines(command: Any, tmp_path: Path) -> None:
    folder = save(tmp_path / "run", done=4)
    code, shown, _ = command("watch", folder)
    lines = shown.splitlines()
    assert code == 0
    assert lines[0] == "made: fedit, 4 clients, complete after 4 rounds"
    assert [line.split(":")[0] for line in lines if " round " in line] == [
        f"  fedit round {i}/4" for i in range(1, 5)
    ]
    assert lines[-1] == f"fedit is done, its rounds took 0:40: fedlease show {folder}"


def test_a_run_whose_process_died_is_told_in_a_line(command: Any, tmp_path: Path) -> None:
    folder = save(tmp_path / "run")
    for options in ((), ("--once",)):
        code, _, complaint = command("watch", folder, *options)
        assert code == 2
        assert complaint == (
            f"fedlease: {folder} stopped after 2 of 4 rounds: no process is at it; "
            f"'fedlease resume {folder}' goes on\n"
        )


def test_what_a_run_broke_off_by_is_told(command: Any, spec_of: Any, tmp_path: Path) -> None:
    spec = spec_of(method={"name": "fedit", "rank": 2}, training={"learning_rate": 1e30, "epochs": 4})
    with pytest.raises(fedlease.FedLeaseError, match="the training loss became"):
        fedlease.run(spec, tmp_path / "run")
    code, _, complaint = command("watch", tmp_path / "run", "--once")
    assert code == 2
    assert "stopped after 0 of 3 rounds: " in complaint
    assert "the training loss became" in complaint
    assert "lower training.learning_rate" in complaint


def test_ctrl_c_only_stops_looking(command: Any, running: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fedlease.cli.watch.time.sleep", interrupted)
    code, shown, complaint = command("watch", running)
    assert (code, complaint) == (0, "")
    assert "no longer watched" in shown


def _cut(folder: Path) -> None:
    (folder / "record.json").write_bytes((folder / "record.json").read_bytes()[:99])


def _other(name: str) -> Any:
    return lambda folder: write_json(folder / name, {**read_json(folder / name), "format": 99})


def _without(part: str) -> Any:
    def harm(folder: Path) -> None:
        made = read_json(folder / "record.json")
        for entry in made["rounds"]:
            del entry[part]
        write_json(folder / "record.json", made)

    return harm


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (_cut, "record.json is not valid JSON"),
        (_other("spec.json"), "spec.json has format 99; fedlease"),
        (_other("record.json"), "record.json has format 99; fedlease"),
        (_other("progress.json"), "progress.json has format 99; fedlease"),
        (_without("metrics"), "record.json is damaged: of the rounds, number 1: it has no metrics"),
        (_without("loss"), "the record is damaged, or of another version: KeyError 'loss'"),
    ],
)
def test_damage_and_other_versions_are_told_in_a_line(
    command: Any, running: Path, harm: Any, says: str
) -> None:
    harm(running)
    code, _, complaint = command("watch", running, "--once")
    assert code == 2
    assert says in complaint
    assert complaint.count("\n") == 1


def test_a_word_of_progress_that_was_lost_is_no_damage(running: Path) -> None:
    (running / "progress.json").write_bytes(b"")
    seen = Watched(running).look()
    assert (seen.state, seen.now, seen.share) == ("running", None, 0.5)


def test_folders_without_runs_are_told(command: Any, tmp_path: Path) -> None:
    assert "there is no folder" in command("watch", tmp_path / "nowhere")[2]
    assert "holds no run" in command("watch", tmp_path)[2]
    (tmp_path / "sites").mkdir()
    (tmp_path / "spec.toml").touch()
    assert "the run has not begun, its sites are awaited" in command("watch", tmp_path)[2]
    save(tmp_path / "run", done=4)
    assert command("watch", tmp_path, "--once")[0] == 0  # a trial of deploy


@pytest.mark.slow
def test_a_run_in_another_process_is_followed_killed_and_followed_to_its_end(
    command: Any, spec_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedlease.cli.watch.LOOK", 0.02)
    folder = tmp_path / "run"
    process = begin(fedlease.run, spec_of(rounds=40), folder)
    try:
        _wait_for(folder / "record.json")
        watched = Watched(folder)
        assert watched.look().state == "running"
        process.kill()
        process.join(90)
        assert watched.look().state == "stopped"
        assert "no process is at it" in watched.look().why
    finally:
        process.kill()
    process = begin(fedlease.resume, folder)
    try:
        _wait_until_it_runs(watched)
        code, shown, complaint = command("watch", folder)
        process.join(90)
    finally:
        process.kill()
    assert (code, complaint) == (0, "")
    lines = shown.splitlines()
    assert [line.split(":")[0].split()[2] for line in lines if line.startswith("  fedlease round")] == [
        f"{i}/40" for i in range(1, 41)
    ]
    assert any(line.startswith("  expert 0: ") for line in lines)
    assert lines[-1].startswith("fedlease is done")
    assert not (folder / "progress.json").exists()


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 90
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.exists()


def _wait_until_it_runs(watched: Watched) -> None:
    deadline = time.monotonic() + 90
    while watched.look().state != "running" and time.monotonic() < deadline:
        time.sleep(0.01)
